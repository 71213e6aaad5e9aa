/**
 * Texts and images in every form that clients send: strings, `{text}`, `{image}`, both, parts of
 * OpenAI and of Voyage, lists of parts with or without `content` around them, and `{id}`.
 */
import { TandemError } from '../../errors.js'
import { compileExact } from '../plugins/validation.js'
import { shown } from '../plugins/validation-message.js'
import { Id, Text } from '../schemas/fields.js'
import { isObject, withoutNulls } from './bodies.js'

/** A text, images or both; or a stored item. At least one of the three is present. */
export interface Content {
  /** Several texts are joined by line breaks. */
  text?: string
  /** Each base64, a data-URI or a URL. */
  images: readonly string[]
  id?: string
}

const IMAGE_DATA = /^data:image\//i
const FORMS = 'a text, {text}, {image}, {image_url}, {id}, or a list of such parts'
const hasVisible = compileExact<string>(Text)
const isId = compileExact<string>(Id)

/**
 * @param name - of the value, in errors
 * @throws TandemError invalid_request naming the value and the forms that are read
 */
export function contentOf(value: unknown, name: string): Content {
  if (isObject(value) && Array.isArray(value['content']))
    return joined(value['content'], `${name}.content`)
  if (isObject(value) && typeof value['content'] === 'string')
    return checkedContent(stringPart(value['content']), value, name)
  if (Array.isArray(value)) return joined(value, name)
  return checkedContent(partOf(value, name), value, name)
}

/** A string that begins as a data-URI of an image is an image. */
function stringPart(value: string): Content {
  return IMAGE_DATA.test(value) ? { images: [value] } : { text: value, images: [] }
}

/** @throws TandemError invalid_request for a value that is no list of contents, or an empty one */
export function contentsOf(value: unknown, name: string): Content[] {
  if (!Array.isArray(value)) return [contentOf(value, name)]
  if (value.length === 0)
    throw new TandemError('invalid_request', `${name} is an empty list; expected at least one.`)
  return value.map((entry, at) => contentOf(entry, `${name}[${at}]`))
}

function joined(parts: readonly unknown[], name: string): Content {
  const contents = parts.map((part, at) => partOf(part, `${name}[${at}]`))
  const texts = contents.flatMap(({ text }) => (text === undefined ? [] : [text]))
  const images = contents.flatMap((content) => content.images)
  const [id] = contents.flatMap((content) => content.id ?? [])
  if (id !== undefined && contents.length > 1)
    throw new TandemError('invalid_request', `${name} has an id and other parts; expected one id.`)
  const content = {
    images,
    ...(texts.length > 0 ? { text: texts.join('\n') } : {}),
    ...(id === undefined ? {} : { id }),
  }
  return checkedContent(content, parts, name)
}

/** A blank text beside an image is left out: CLIP servers ask for one. */
function checkedContent(content: Content, value: unknown, name: string): Content {
  const { text, images, id } = content
  if (text !== undefined && !hasVisible(text)) {
    if (images.length > 0) return { images }
    throw new TandemError(
      'invalid_request',
      `${name} is ${shown(text)}; expected a text with at least one visible character.`,
    )
  }
  if (text === undefined && images.length === 0 && id === undefined) throw unexpected(value, name)
  return content
}

/** Other fields are ignored: documents come with titles, metadata and ids of their own. */
function partOf(value: unknown, name: string): Content {
  if (typeof value === 'string') return stringPart(value)
  if (!isObject(value)) throw unexpected(value, name)
  const { text, image, image_url: url, image_base64: base64, id } = withoutNulls(value)
  const images = [image, isObject(url) ? url['url'] : url, base64].filter(
    (source) => source !== undefined,
  )
  if (!images.every((source) => typeof source === 'string')) throw unexpected(value, name)
  if (text !== undefined && typeof text !== 'string') throw unexpected(value, name)
  if (text !== undefined || images.length > 0)
    return { images, ...(text === undefined ? {} : { text }) }
  if (typeof id === 'string' && isId(id)) return { images: [], id }
  throw unexpected(value, name)
}

function unexpected(value: unknown, name: string): TandemError {
  const type = isObject(value) ? value['type'] : undefined
  const given = typeof type === 'string' ? `a part of type ${shown(type)}` : shown(value)
  return new TandemError('invalid_request', `${name} is ${given}; expected ${FORMS}.`)
}
