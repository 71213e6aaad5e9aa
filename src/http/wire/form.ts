/**
 * Reads a multipart/form-data body into its parts, in their order, within the limits of the
 * service.
 */
import type { FastifyError, FastifyRequest } from 'fastify'
import { TandemError } from '../../errors.js'
import type { InputLimits } from './inputs.js'

export interface FormField {
  name: string
  value: string
}
export interface FormFile {
  name: string
  fileName: string
  bytes: Uint8Array
}

/** What a route takes: names of fields and of files. */
export interface FormShape {
  fields: readonly string[]
  files: readonly string[]
}

export function isForm(request: FastifyRequest): boolean {
  return request.headers['content-type']?.toLowerCase().startsWith('multipart/form-data') === true
}

/**
 * All parts of the form. The files together may be as large as a body may be.
 *
 * @throws TandemError body_unreadable, body_too_large, batch_too_large, and invalid_request for a
 *   part that `shape` does not name
 */
export async function readForm(
  request: FastifyRequest,
  shape: FormShape,
  limits: InputLimits,
): Promise<(FormField | FormFile)[]> {
  const { maxBodyBytes, maxBatchItems } = limits
  const parts: (FormField | FormFile)[] = []
  let size = 0
  try {
    // Twice the items: an id and a payload can come with each image.
    const most = {
      fileSize: maxBodyBytes,
      fieldSize: maxBodyBytes,
      files: maxBatchItems,
      parts: maxBatchItems * 3,
    }
    for await (const part of request.parts({ limits: most })) {
      if (part.type === 'file') {
        const bytes = await part.toBuffer()
        parts.push(known(shape, { name: part.fieldname, fileName: part.filename, bytes }))
        size += bytes.length
      } else {
        const value = typeof part.value === 'string' ? part.value : JSON.stringify(part.value)
        parts.push(known(shape, { name: part.fieldname, value }))
        size += value.length
      }
      if (size > maxBodyBytes) throw tooLarge(limits)
    }
  } catch (error) {
    throw formError(error, limits)
  }
  if (parts.length > 0) return parts
  throw new TandemError('body_missing', `The form has no parts; expected ${expected(shape)}.`)
}

export function isFile(part: FormField | FormFile): part is FormFile {
  return 'bytes' in part
}

/** The values of the fields of one name, in their order. */
export function fieldValues(parts: readonly (FormField | FormFile)[], name: string): string[] {
  return parts.flatMap((part) => (part.name === name && !isFile(part) ? [part.value] : []))
}

/** The only file of a form that takes one. */
export function onlyFile(parts: readonly (FormField | FormFile)[]): Uint8Array {
  const files = parts.filter(isFile)
  const [file] = files
  if (file !== undefined && files.length === 1) return file.bytes
  throw new TandemError(
    'invalid_request',
    `The form has ${files.length} files; expected exactly one, named image.`,
  )
}

/** The only value of a field that may come once, or undefined. */
export function onlyField(
  parts: readonly (FormField | FormFile)[],
  name: string,
): string | undefined {
  const values = fieldValues(parts, name)
  if (values.length <= 1) return values[0]
  throw new TandemError(
    'invalid_request',
    `The form has ${values.length} fields named ${name}; expected at most one.`,
  )
}

function known<Part extends FormField | FormFile>(shape: FormShape, part: Part): Part {
  if ((isFile(part) ? shape.files : shape.fields).includes(part.name)) return part
  const what = isFile(part) ? 'file' : 'field'
  throw new TandemError(
    'invalid_request',
    `"${part.name.slice(0, 60)}" is not a known ${what} of this form; expected ${expected(shape)}.`,
  )
}

function expected({ fields, files }: FormShape): string {
  return [...files.map((name) => `${name} (a file)`), ...fields].join(', ')
}

function tooLarge({ maxBodyBytes }: InputLimits): TandemError {
  return new TandemError(
    'body_too_large',
    `The form is larger than ${maxBodyBytes} bytes, the most this service takes.`,
  )
}

function formError(error: unknown, limits: InputLimits): unknown {
  if (error instanceof TandemError) return error
  const { code, message } = error as FastifyError
  switch (code) {
    case 'FST_REQ_FILE_TOO_LARGE':
      return tooLarge(limits)
    case 'FST_FILES_LIMIT':
    case 'FST_PARTS_LIMIT':
    case 'FST_FIELDS_LIMIT':
      return new TandemError(
        'batch_too_large',
        `The form has too many parts; expected at most ${limits.maxBatchItems} files.`,
      )
    default:
      return new TandemError('body_unreadable', `The form cannot be read: ${message}.`, {
        cause: error,
      })
  }
}
