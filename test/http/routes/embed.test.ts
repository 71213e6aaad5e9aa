import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestService, type TestService } from '../../support/test-service.js'
import { embeddingOf } from '../../support/word-models.js'

let tandem: TestService
interface Reply {
  model: string
  dim: number
  embeddings: { index: number; type: string; embedding: number[] | string }[]
}

beforeAll(async () => {
  tandem = await startTestService({ maxBatchItems: 4, dialects: [] })
})
afterAll(() => tandem.end())

const base64 = (word: string): string => Buffer.from(word).toString('base64')
const floats = (embedding: number[] | string = []): Float32Array =>
  Float32Array.from(embedding as number[])
const embed = (payload: object) => tandem.app.inject({ method: 'POST', url: '/embed', payload })

describe('POST /embed', () => {
  it('returns embeddings in the order of the inputs', async () => {
    const inputs = [
      { image: base64('cat') },
      { text: 'dog' },
      { image: base64('horse') },
      { text: 'cat' },
    ]
    const { model, dim, embeddings } = (await embed({ inputs })).json<Reply>()
    expect([model, dim]).toEqual(['words', 64])
    expect(embeddings.map(({ index, type }) => [index, type])).toEqual([
      [0, 'image'],
      [1, 'text'],
      [2, 'image'],
      [3, 'text'],
    ])
    for (const [at, word] of ['cat', 'dog', 'horse', 'cat'].entries()) {
      expect(floats(embeddings[at]?.embedding), word).toEqual(embeddingOf(word))
    }
  })

  it('returns base64 of little-endian float32 on request', async () => {
    const { embeddings } = (
      await embed({ inputs: [{ text: 'dog' }], encoding_format: 'base64' })
    ).json<Reply>()
    const bytes = Buffer.from(String(embeddings[0]?.embedding), 'base64')
    expect(Array.from({ length: 64 }, (_, at) => bytes.readFloatLE(at * 4))).toEqual([
      ...embeddingOf('dog'),
    ])
  })

  it('accepts a form and keeps the order of its parts', async () => {
    const form = new FormData()
    form.append('text', 'dog')
    form.append('image', new Blob(['cat']), 'cat.jpg')
    form.append('text', 'horse')
    const { embeddings } = (
      await tandem.app.inject({ method: 'POST', url: '/embed', payload: form })
    ).json<Reply>()
    expect(embeddings.map(({ type }) => type)).toEqual(['text', 'image', 'text'])
    expect(floats(embeddings[2]?.embedding)).toEqual(embeddingOf('horse'))
  })

  it.each([
    [{}, 422, 'inputs is missing'],
    [[], 422, 'The body is an empty list; expected an object with inputs'],
    [{ inputs: [] }, 422, 'inputs is an empty list'],
    [{ inputs: 'dog' }, 422, 'inputs is "dog"; expected a list'],
    [
      { inputs: [{ text: '' }] },
      422,
      'inputs[0].text is ""; expected a text with at least one visible character',
    ],
    [
      { inputs: [{ text: 'a', image: 'b' }] },
      422,
      'inputs[0] is an object with text, image; expected',
    ],
    [
      { inputs: [{ text: 'dog' }], encoding_format: 'hex' },
      422,
      'encoding_format is "hex"; expected "float"',
    ],
    [
      { inputs: [{ text: 'dog' }, { image: base64('bad') }] },
      422,
      'inputs[1]: The image is cut off.',
    ],
    [{ inputs: Array(5).fill({ text: 'dog' }) }, 413, 'inputs has 5 entries; expected at most 4'],
  ])('refuses %j', async (body, status, sentence) => {
    const reply = await embed(body)
    expect(reply.statusCode).toBe(status)
    expect(reply.json<{ detail: string }>().detail).toContain(sentence)
  })
})
