/**
 * What several requests and replies share. TypeScript types and the OpenAPI document derive from
 * the schemas of this folder. A `description` in a request completes the sentence "expected …" of a
 * validation error.
 */
import { Type, type Static, type TSchema } from 'typebox'
import { errorTable, type ErrorCode } from '../../errors.js'
import { LANGUAGE_TAG } from '../../language/language-check.js'

/** Unknown fields and parameters are errors. */
export const closed = { additionalProperties: false }

/** A schema that also takes null. */
export function nullable<Value>(schema: TSchema, description: string) {
  const untitled: Record<string, unknown> = { ...schema }
  // A title names a schema of its own.
  delete untitled['title']
  return Type.Unsafe<Value | null>({
    ...untitled,
    type: [(schema as { type?: string }).type ?? 'object', 'null'],
    description,
  })
}

/** One of some words. */
export function words<Word extends string>(...of: Word[]) {
  return Type.Unsafe<Word>({ type: 'string', enum: of })
}

/** A reply without a body. */
export function empty(description: string) {
  return Type.Unsafe<void>({ type: 'null', description })
}

/** Marks the schema of a body that the route reads itself: a form, a file, a stream of lines. */
export const readByRoute = { 'x-read-by-route': true } as const

/**
 * A body in one of several content types. Only `application/json` is validated before the handler.
 *
 * @typeParam Body - what the handler finds; undefined for a form
 */
export function bodyIn<Body>(types: Record<string, TSchema>) {
  const content = Object.entries(types).map(([type, schema]) => [
    type,
    { schema: type === 'application/json' ? schema : { ...schema, ...readByRoute } },
  ])
  return Type.Unsafe<Body>({ content: Object.fromEntries(content) as object })
}

export const NoQuery = Type.Object({}, { ...closed, description: 'no parameter' })

/** DI: characters that are drawn as nothing, such as variation selectors. */
const VISIBLE = '[^\\s\\p{Cc}\\p{Cf}\\p{DI}]'

/** Joiners (U+200C, U+200D) are part of Persian words and of emoji. */
export const Id = Type.String({
  pattern: `^(?!\\.{1,2}$)(?!\\s)(?=.*${VISIBLE})[^\\p{Cc}\\p{Cs}\\p{Zl}\\p{Zp}\\p{Bidi_C}\\p{NChar}]{1,256}(?<!\\s)$`,
  description:
    '1 to 256 characters, one of them visible, without control characters or space at either end, other than "." and ".."',
})

export const Text = Type.String({
  pattern: VISIBLE,
  description: 'a text with at least one visible character',
})

export const ImageString = Type.String({
  // As minLength 1, for which ajv would count the characters of the whole image.
  pattern: '^[\\s\\S]',
  description:
    'an image as base64, as a data-URI (data:image/jpeg;base64,…), or as a URL of a host that the service asks',
})

export const ImageFile = Type.String({
  format: 'binary',
  description: 'the bytes of an image file',
})

/** Exactly one of the properties is present; `minProperties` and `maxProperties` say so to ajv. */
export const exactlyOne = { ...closed, minProperties: 1, maxProperties: 1 }

export const Payload = Type.Record(Type.String(), Type.Unknown(), {
  title: 'Payload',
  description: 'a JSON object, kept beside the image and returned with each hit',
})
export type Payload = Static<typeof Payload>

export const PayloadText = Type.String({ description: 'a JSON object' })

export const StoredPayload = Type.Unsafe<Payload | null>({
  type: ['object', 'null'],
  additionalProperties: true,
  description: 'The payload of the item',
})

export const Timings = Type.Record(Type.String(), Type.Number(), {
  title: 'Timings',
  description:
    'Milliseconds by stage: encode, recall, fetch, rerank and total; preprocess, tokenize, queue and inference are parts of them',
})

export const Match = nullable<number>(
  Type.Number(),
  'Calibrated probability that image and text belong together; null where it was not computed',
)

export const Language = Type.String({
  pattern: LANGUAGE_TAG,
  description: 'a language such as en or pt-BR: of the texts, instead of identifying it',
})

const Notice = Type.Object(
  {
    code: words('language_not_spoken', 'text_not_understood'),
    detail: Type.String({ description: 'A sentence for this occurrence' }),
    language: nullable<string>(Type.String(), 'The language; null where it was not identified'),
    documents: Type.Optional(
      Type.Array(Type.Integer(), {
        description: 'Positions of the documents that it is about; absent for the query',
      }),
    ),
  },
  { title: 'Notice' },
)

export const Notices = Type.Array(Notice, {
  description: 'Texts that the bundle does not understand, and which so have no match',
})

export const Problem = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    code: words(...(Object.keys(errorTable) as ErrorCode[])),
    instance: Type.String({ description: 'The id of the request, as in the log' }),
  },
  {
    title: 'Problem',
    description: 'An error (RFC 9457); code names its kind, detail this occurrence',
    examples: [
      {
        type: '/docs/errors#item_not_found',
        title: 'Item not found',
        status: 404,
        detail: 'There is no item with the id "beach".',
        code: 'item_not_found',
        instance: 'req-1',
      },
    ],
  },
)
export type Problem = Static<typeof Problem>
