/** Bodies for each operation: valid, with an invalid value, or malformed. */
import fc, { type Arbitrary } from 'fast-check'
import { brokenJson, dot, ids, numbers, payloads, images, texts } from './values.js'

export interface Body {
  type: string
  bytes: Buffer
}

const any = fc.oneof(texts, numbers, images, payloads)
/** A record with some of its fields, sometimes with a value of another type or an extra field. */
export function loosely(fields: Record<string, Arbitrary<unknown>>): Arbitrary<unknown> {
  const wrong = Object.fromEntries(
    Object.entries(fields).map(([name, right]) => [
      name,
      fc.oneof({ weight: 8, arbitrary: right }, { weight: 1, arbitrary: any }),
    ]),
  )
  return fc.oneof(
    { weight: 8, arbitrary: fc.record(wrong, { requiredKeys: [] }) },
    {
      weight: 1,
      arbitrary: fc
        .tuple(fc.record(wrong), fc.dictionary(texts, any, { maxKeys: 2 }))
        .map(([right, more]) => ({ ...right, ...more })),
    },
    { weight: 1, arbitrary: any },
  )
}

const truth = fc.oneof({ weight: 4, arbitrary: fc.boolean() }, { weight: 1, arbitrary: numbers })
const key = fc.oneof(fc.constantFrom('a', 'a.b', 'a..b', 'constructor.name'), texts)
const condition = fc.oneof(
  loosely({
    key,
    match: fc.oneof(texts, numbers, fc.array(fc.oneof(texts, numbers), { maxLength: 3 })),
  }),
  loosely({ key, range: loosely({ gt: numbers, gte: texts, lt: numbers, lte: texts }) }),
  loosely({ key, exists: truth }),
)
export const filters = fc.letrec((tie) => ({
  list: fc.array(fc.oneof({ depthSize: 'small' }, condition, tie('filter')), { maxLength: 4 }),
  filter: loosely({ must: tie('list'), should: tie('list'), must_not: tie('list') }),
})).filter
const options = {
  k: numbers,
  candidates: numbers,
  rerank: truth,
  min_match: numbers,
  filter: filters,
}
const input = fc.oneof(
  { weight: 3, arbitrary: fc.record({ text: texts }) },
  { weight: 2, arbitrary: fc.record({ image: images }) },
  { weight: 2, arbitrary: fc.record({ id: ids }) },
  { weight: 1, arbitrary: loosely({ text: texts, image: images, id: ids }) },
  { weight: 1, arbitrary: texts },
)
const item = { image: images, payload: payloads }

export function json(value: Arbitrary<unknown>): Arbitrary<Body> {
  const text = fc.oneof(
    { weight: 6, arbitrary: value.map((one) => JSON.stringify(one) ?? '') },
    { weight: 1, arbitrary: brokenJson },
  )
  return text.map((one) => ({ type: 'application/json', bytes: Buffer.from(one) }))
}

export const searchBody = fc.oneof(
  json(loosely({ text: texts, ...options })),
  json(
    fc
      .tuple(input, fc.record(options, { requiredKeys: [] }))
      .map(([one, more]) => (typeof one === 'object' ? { ...one, ...more } : one)),
  ),
  form(['image', 'k', 'candidates', 'rerank', 'min_match', 'filter', 'text']),
)
export const embedBody = fc.oneof(
  json(
    loosely({
      inputs: fc.array(input, { maxLength: 20 }),
      encoding_format: fc.constantFrom('float', 'base64', 'int8', null),
    }),
  ),
  form(['image', 'text', 'encoding_format']),
)
export const rerankBody = json(
  loosely({
    query: input,
    documents: fc.oneof(
      fc.array(fc.oneof(texts, fc.record({ text: texts })), { maxLength: 20 }),
      fc.array(fc.oneof(fc.record({ image: images }), fc.record({ id: ids })), { maxLength: 20 }),
      fc.array(input, { maxLength: 20 }),
    ),
    top_n: numbers,
    return_documents: truth,
  }),
)
export const mcpBody = json(
  loosely({
    jsonrpc: fc.constantFrom('2.0', '2.0', '2.0', '1.0'),
    id: fc.oneof(numbers, texts),
    method: fc.oneof(
      fc.constantFrom('tools/call', 'tools/call', 'tools/list', 'initialize', 'ping'),
      texts,
    ),
    params: loosely({
      name: fc.constantFrom('search_images', 'view_image', 'search', 'fetch', '__proto__'),
      arguments: fc.oneof(loosely({ text: texts, id: ids, image: images, ...options }), input),
      protocolVersion: texts,
      _meta: payloads,
    }),
  }),
)
export const reembeddingBody = json(loosely({ model: fc.oneof(fc.constant('tiny-bundle'), texts) }))
export const itemBody = fc.oneof(
  json(loosely(item)),
  form(['image', 'payload', 'id']),
  images.map((text) => ({ type: 'image/png', bytes: Buffer.from(text, 'base64') })),
)

const line = fc.oneof(
  { weight: 6, arbitrary: loosely({ id: ids, ...item }).map((one) => JSON.stringify(one) ?? '') },
  { weight: 1, arbitrary: brokenJson },
  { weight: 1, arbitrary: fc.constantFrom('', '\r', '  ', '\u2028') },
)
export const itemsBody = fc.oneof(
  fc
    .array(line, { maxLength: 12 })
    .map((lines) => ({ type: 'application/x-ndjson', bytes: Buffer.from(lines.join('\n')) })),
  form(['image', 'id', 'payload']),
)

/** A form of up to a dozen parts, sometimes of thousands; lines and boundary may be malformed. */
export function form(names: readonly string[]): Arbitrary<Body> {
  const part = fc.record({
    name: fc.oneof(
      { weight: 8, arbitrary: fc.constantFrom(...names) },
      { weight: 1, arbitrary: texts },
    ),
    fileName: fc.option(fc.oneof(ids, texts), { freq: 2 }),
    value: fc.oneof(
      { weight: 3, arbitrary: fc.constant(Buffer.from(dot, 'base64')) },
      { weight: 2, arbitrary: texts.map((text) => Buffer.from(text)) },
      { weight: 1, arbitrary: numbers.map((one) => Buffer.from(String(JSON.stringify(one)))) },
    ),
    more: fc.oneof(
      { weight: 8, arbitrary: fc.constant('') },
      {
        weight: 1,
        arbitrary: fc.constantFrom(
          'content-type: application/json\r\n',
          'content-transfer-encoding: base64\r\n',
          'content-disposition: form-data\r\n',
          'x'.repeat(20_000),
          ': \r\n',
          '\u0000\r\n',
        ),
      },
    ),
  })
  const parts = fc.oneof(
    { weight: 20, arbitrary: fc.array(part, { maxLength: 6 }) },
    {
      weight: 1,
      arbitrary: part.map((one) =>
        Array.from({ length: 400 }, () => ({ ...one, value: one.value.subarray(0, 100) })),
      ),
    },
  )
  const frame = fc.oneof(
    { weight: 10, arbitrary: fc.constant('b') },
    {
      weight: 1,
      arbitrary: fc.constantFrom('', 'b b', '"b"', 'c', 'b'.repeat(80), 'b; boundary=c'),
    },
  )
  const end = fc.oneof(
    { weight: 10, arbitrary: fc.constant('--b--\r\n') },
    { weight: 1, arbitrary: fc.constantFrom('', '--b', '--b--', '\r\n', '--b--\r\n--b--\r\nx') },
  )
  return fc.tuple(parts, frame, end).map(([all, boundary, last]) => ({
    type: `multipart/form-data; boundary=${boundary}`,
    bytes: Buffer.concat([...all.map(partBytes), Buffer.from(last)]),
  }))
}

function partBytes({
  name,
  fileName,
  value,
  more,
}: {
  name: string
  fileName: string | null
  value: Buffer
  more: string
}): Buffer {
  const file = fileName === null ? '' : `; filename="${fileName}"`
  return Buffer.concat([
    Buffer.from(`--b\r\ncontent-disposition: form-data; name="${name}"${file}\r\n${more}\r\n`),
    value,
    Buffer.from('\r\n'),
  ])
}
