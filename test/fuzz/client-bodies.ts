/** Bodies of the dialects: valid, with an invalid value, or malformed. */
import fc, { type Arbitrary } from 'fast-check'
import { embedBody, form, json, loosely, rerankBody, type Body } from './bodies.js'
import { ids, images, numbers, texts } from './values.js'

const models = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom('tiny', 'default/not-specified', null) },
  { weight: 1, arbitrary: texts },
)
const uris = images.map((image) => `data:image/png;base64,${image}`)
const flags = fc.oneof(fc.boolean(), fc.constant(null))
const urls = fc.oneof(
  uris,
  uris.map((url) => ({ url })),
)
const part = fc.oneof(
  texts,
  fc.record({ type: fc.constant('text'), text: texts }),
  fc.record({ type: fc.constant('image_url'), image_url: urls }),
  fc.record({ type: fc.constant('image_base64'), image_base64: uris }),
  loosely({ type: texts, text: texts, image: images, image_url: urls, id: ids }),
)
const parts = fc.array(part, { maxLength: 3 })
const content = fc.oneof(
  { weight: 4, arbitrary: texts },
  { weight: 2, arbitrary: uris },
  { weight: 4, arbitrary: part },
  { weight: 2, arbitrary: fc.oneof(parts, fc.record({ content: fc.oneof(parts, texts) })) },
)
const contents = fc.oneof(fc.array(content, { maxLength: 8 }), content)
const formats = fc.constantFrom('float', 'base64', 'binary', 'ubinary', 'int8', null)
const dimensions = fc.oneof({ weight: 8, arbitrary: fc.constant(null) }, numbers)
const ranking = {
  query: content,
  documents: contents,
  top_n: fc.oneof(fc.constant(null), numbers),
  return_documents: flags,
  raw_scores: flags,
}

export const embeddingsBody = json(
  fc.oneof(
    loosely({ model: models, input: contents, encoding_format: formats, dimensions }),
    loosely({ input: fc.array(fc.array(fc.nat(9))), modality: fc.constantFrom('text', 'image') }),
    loosely({ messages: fc.array(fc.record({ role: texts, content: fc.oneof(parts, texts) })) }),
  ),
)
export const clientRerankBody = json(loosely({ model: models, ...ranking }))
export const scoreBody = json(
  fc.oneof(
    loosely({ text_1: contents, text_2: contents }),
    loosely({ queries: contents, documents: contents, items: contents }),
  ),
)
export const cohereBody = json(
  loosely({
    model: models,
    texts: fc.option(fc.array(texts, { maxLength: 4 })),
    images: fc.option(fc.array(uris, { maxLength: 4 }), { freq: 1 }),
    inputs: fc.option(fc.array(content, { maxLength: 4 }), { freq: 1 }),
    embedding_types: fc.array(formats, { maxLength: 3 }),
  }),
)
export const voyageBody = json(
  loosely({ model: models, inputs: fc.array(content, { maxLength: 4 }), encoding_format: formats }),
)
export const vectorizeBody = json(
  loosely({ texts: fc.array(texts, { maxLength: 4 }), images: fc.array(images, { maxLength: 4 }) }),
)
export const predictBody = form(['entries', 'image', 'text'])
export const knnBody = json(
  loosely({ text: fc.option(texts), image: fc.option(images), num_images: numbers }),
)
/** Bodies of ours and of others, at the addresses that they share. */
export const sharedEmbedBody: Arbitrary<Body> = fc.oneof(
  { weight: 3, arbitrary: embedBody },
  { weight: 1, arbitrary: json(loosely({ inputs: contents, truncate: flags })) },
)
export const sharedRerankBody: Arbitrary<Body> = fc.oneof(
  { weight: 3, arbitrary: rerankBody },
  { weight: 1, arbitrary: clientRerankBody },
  { weight: 1, arbitrary: json(loosely({ query: content, texts: contents, return_text: flags })) },
)
