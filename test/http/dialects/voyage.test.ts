import { afterAll, beforeAll, expect, it } from 'vitest'
import { startTestService, type TestService } from '../../support/test-service.js'
import { embeddingOf } from '../../support/word-models.js'

let tandem: TestService

beforeAll(async () => {
  tandem = await startTestService()
})
afterAll(() => tandem.end())

const embed = (payload: object) =>
  tandem.app.inject({ method: 'POST', url: '/v1/multimodalembeddings', payload })
const image = (word: string): string =>
  `data:image/webp;base64,${Buffer.from(word).toString('base64')}`

it('embeds what the client of Voyage sends, with the fields that it reads', async () => {
  const reply = await embed({
    inputs: [
      { content: [{ type: 'text', text: 'cat' }] },
      { content: [{ type: 'image_base64', image_base64: image('dog') }] },
      {
        content: [
          { type: 'text', text: 'cat' },
          { type: 'image_base64', image_base64: image('cat') },
        ],
      },
    ],
    ...{ model: 'words', input_type: null, truncation: true, output_dtype: null },
    ...{ output_dimension: null, encoding_format: 'base64' },
  })
  const { data, ...rest } = reply.json<{ data: { index: number; embedding: string }[] }>()
  const vectors = data.map(
    ({ embedding }) => new Float32Array(new Uint8Array(Buffer.from(embedding, 'base64')).buffer),
  )
  expect(vectors.slice(0, 2)).toEqual([embeddingOf('cat'), embeddingOf('dog')])
  vectors[2]?.forEach((value, at) => expect(value).toBeCloseTo(embeddingOf('cat')[at] ?? 0, 6))
  expect(rest).toEqual({
    object: 'list',
    model: 'words',
    usage: { text_tokens: 0, image_pixels: 0, video_pixels: 0, total_tokens: 0 },
  })
})

it('gives numbers without encoding_format', async () => {
  const reply = await embed({ inputs: [{ content: ['dog'] }] })
  const [first] = reply.json<{ data: { embedding: number[] }[] }>().data
  expect(Float32Array.from(first?.embedding ?? [])).toEqual(embeddingOf('dog'))
})

it.each<[object, number, string]>([
  [{ inputs: [] }, 422, 'inputs is an empty list'],
  [{ inputs: [{ content: [] }] }, 422, 'inputs[0].content is an empty list'],
  [{ inputs: ['a'], output_dtype: 'int8' }, 422, 'output_dtype is "int8"'],
  [{ inputs: ['a'], model: 'voyage-multimodal-3' }, 404, 'voyage-multimodal-3'],
])('refuses %j', async (payload, status, sentence) => {
  const reply = await embed(payload)
  expect(reply.statusCode).toBe(status)
  expect(reply.json<{ detail: string }>().detail).toContain(sentence)
})
