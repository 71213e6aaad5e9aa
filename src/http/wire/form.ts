/** The parts of a multipart/form-data body, within the limits of the service. */
import type { Readable } from 'node:stream'
import type { FastifyMultipartBaseOptions, MultipartFile, MultipartValue } from '@fastify/multipart'
import type { FastifyError, FastifyRequest } from 'fastify'
import { clip, TandemError } from '../../errors.js'
import { GrowingBuffer } from '../growing-buffer.js'
import { losslessText, utf8Text } from '../utf8.js'
import { FormPieces } from './form-pieces.js'
import type { InputLimits } from './inputs.js'

/** A payload has 64 KiB at most. Parsing more would block the event loop. */
export const MAX_FIELD_BYTES = 262_144
/** Of a part beside its content: boundary, names and types. */
const MAX_HEAD_BYTES = 4096

export interface FormField {
  name: string
  value: string
}
export interface FormFile {
  name: string
  fileName: string
  bytes: Uint8Array
}
export type FormPart = FormField | FormFile

/** Names of the fields and files that a route takes. */
export interface FormShape {
  fields: readonly string[]
  files: readonly string[]
  /** Leaves out other parts; without it they are an error. */
  ignoresOthers?: boolean
}

/**
 * All parts in their order. Together they may be as large as a body. Then the request has a permit.
 *
 * @throws TandemError body_unreadable, body_too_large, batch_too_large, overloaded; invalid_request
 *   for a part that `shape` does not name
 */
export async function readForm(
  request: FastifyRequest,
  shape: FormShape,
  limits: InputLimits,
): Promise<FormPart[]> {
  const { maxBodyBytes, maxBatchItems } = limits
  const parts: FormPart[] = []
  let size = 0
  let files = 0
  const holds = (more: number): void => request.admission.holds(size + more)
  // busboy reads a part that is too large to its end before it says so.
  const most = maxBodyBytes + maxParts(limits) * MAX_HEAD_BYTES
  const pieces = new FormPieces(most, () => tooLarge(limits))
  try {
    if (Number(request.headers['content-length']) > most) throw tooLarge(limits)
    // The path that a client gives tells equal names of two folders apart.
    const options = { preservePath: true, limits: mostOf(limits), isPartAFile }
    pieces.from(request.raw)
    for await (const part of reads(request, pieces).parts(options)) {
      if (part.type === 'file' && isFileType(part.mimetype, part.filename)) {
        const bytes = await bytesOf(part.file, holds)
        if (part.file.truncated) throw tooLarge(limits)
        files += 1
        if (files > maxBatchItems) throw tooMany(limits)
        const fileName = losslessText(part.filename ?? '', 'The file name of a part')
        const file = { name: part.fieldname, fileName, bytes }
        if (isKnown(shape, file)) parts.push(file)
        size += bytes.length
      } else {
        const value = part.type === 'file' ? await jsonOf(part, holds) : textOf(part)
        const field = { name: part.fieldname, value }
        if (isKnown(shape, field)) {
          losslessText(value, `The field ${part.fieldname}`)
          parts.push(field)
        }
        size += value.length
        request.admission.holds(size)
      }
      if (size > maxBodyBytes) throw tooLarge(limits)
    }
  } catch (error) {
    throw formError(error, limits)
  } finally {
    // The rest is dropped; a paused connection would not notice that its client has gone.
    request.raw.unpipe(pieces).resume()
    pieces.destroy()
  }
  request.admission.begin()
  if (parts.length > 0) return parts
  throw new TandemError('body_missing', `The form has no parts; expected ${expected(shape)}.`)
}

/** The request as the plugin for forms sees it: it reads `pieces` in place of the connection. */
function reads(request: FastifyRequest, pieces: FormPieces): FastifyRequest {
  const raw = Object.assign(pieces, { headers: request.raw.headers })
  return Object.create(request, { raw: { value: raw } }) as FastifyRequest
}

export function isFile(part: FormPart): part is FormFile {
  return 'bytes' in part
}

/** The values of the fields with this name. */
export function fieldValues(parts: readonly FormPart[], name: string): string[] {
  return parts.flatMap((part) => (part.name === name && !isFile(part) ? [part.value] : []))
}

/** @throws TandemError invalid_request unless the form has exactly one file */
export function onlyFile(parts: readonly FormPart[]): Uint8Array {
  const files = parts.filter(isFile)
  const [file] = files
  if (file !== undefined && files.length === 1) return file.bytes
  throw new TandemError(
    'invalid_request',
    `The form has ${files.length} files; expected exactly one, named image.`,
  )
}

/** @throws TandemError invalid_request if the form has the field more than once */
export function onlyField(parts: readonly FormPart[], name: string): string | undefined {
  const values = fieldValues(parts, name)
  if (values.length <= 1) return values[0]
  throw new TandemError(
    'invalid_request',
    `The form has ${values.length} fields named ${name}; expected at most one.`,
  )
}

/** An image can come with an id and a payload. */
function maxParts({ maxBatchItems }: InputLimits): number {
  return maxBatchItems * 3
}

function mostOf(limits: InputLimits): FastifyMultipartBaseOptions['limits'] {
  const parts = maxParts(limits)
  return { fileSize: limits.maxBodyBytes, fieldSize: MAX_FIELD_BYTES, files: parts, parts }
}

/** Whether busboy hands a part over as bytes: a file, or JSON, which the plugin would parse. */
function isPartAFile(_field?: string, type?: string, fileName?: string): boolean {
  return isFileType(type, fileName) || type?.startsWith('application/json') === true
}

function isFileType(type: string | undefined, fileName: string | undefined): boolean {
  return type === 'application/octet-stream' || fileName !== undefined
}

/** A field of the type application/json. */
async function jsonOf(
  { fieldname, file }: MultipartFile,
  onLength: (bytes: number) => void,
): Promise<string> {
  const bytes = await bytesOf(file, onLength)
  if (bytes.length > MAX_FIELD_BYTES) throw fieldTooLarge(fieldname)
  return utf8Text(bytes, `The field ${fieldname}`)
}

function textOf({ fieldname, value, valueTruncated }: MultipartValue): string {
  if (valueTruncated) throw fieldTooLarge(fieldname)
  return value as string
}

function fieldTooLarge(name: string): TandemError {
  return new TandemError(
    'body_too_large',
    `The field ${clip(name, 60)} is larger than ${MAX_FIELD_BYTES} bytes, the most that a field of a form may be.`,
  )
}

async function bytesOf(stream: Readable, onLength: (bytes: number) => void): Promise<Buffer> {
  const bytes = new GrowingBuffer()
  for await (const piece of stream as AsyncIterable<Buffer>) {
    bytes.add(piece)
    onLength(bytes.length)
  }
  return bytes.bytes()
}

function isKnown(shape: FormShape, part: FormPart): boolean {
  if ((isFile(part) ? shape.files : shape.fields).includes(part.name)) return true
  if (shape.ignoresOthers === true) return false
  const what = isFile(part) ? 'file' : 'field'
  throw new TandemError(
    'invalid_request',
    `"${clip(part.name, 60)}" is not a known ${what} of this form; expected ${expected(shape)}.`,
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

function tooMany({ maxBatchItems }: InputLimits): TandemError {
  return new TandemError(
    'batch_too_large',
    `The form has too many parts; expected at most ${maxBatchItems} files.`,
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
      return tooMany(limits)
    default:
      return new TandemError('body_unreadable', `The form cannot be read: ${message}.`, {
        cause: error,
      })
  }
}
