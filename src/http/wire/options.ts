/**
 * The forms that routes take instead of JSON: their schemas for the API documentation, and checks
 * of their fields.
 */
import { Type } from 'typebox'
import { checked, compileCoercing, compileExact } from '../plugins/validation.js'
import { EncodingFormat, Id, SearchOptions, Text } from '../schemas/requests.js'

const file = Type.String({ format: 'binary', description: 'the file of an image' })

export const rawImage = Type.String({
  format: 'binary',
  description: 'the bytes of an image file',
})

export const embedForm = Type.Object({
  text: Type.Optional(Type.Array(Text)),
  image: Type.Optional(Type.Array(file)),
  encoding_format: Type.Optional(EncodingFormat),
})

export const searchForm = Type.Object({ image: file, ...SearchOptions.properties })

export const itemForm = Type.Object({
  image: file,
  payload: Type.Optional(Type.String({ description: 'a JSON object' })),
})

export const itemsForm = Type.Object({
  image: Type.Array(file),
  id: Type.Optional(Type.Array(Id)),
  payload: Type.Optional(Type.Array(Type.String({ description: 'a JSON object' }))),
})

const validText = compileExact<{ text: string }>(Type.Object({ text: Text }))
const validFormat = compileExact<{ encoding_format: 'float' | 'base64' }>(
  Type.Object({ encoding_format: EncodingFormat }),
)
const validId = compileExact<{ id: string }>(Type.Object({ id: Id }))
const validOptions = compileCoercing<SearchOptions>(SearchOptions)

export function filledText(text: string): string {
  return checked(validText, { text }, 'field').text
}

export function encodingFormat(value: string | undefined): 'float' | 'base64' {
  return checked(validFormat, { encoding_format: value ?? 'float' }, 'field').encoding_format
}

export function validItemId(id: string): string {
  return checked(validId, { id }, 'field').id
}

/** Search options out of the string values of a form. */
export function searchOptions(fields: Readonly<Record<string, string>>): SearchOptions {
  return checked(validOptions, { ...fields }, 'field')
}
