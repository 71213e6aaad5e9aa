import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestService, type TestService } from '../../support/test-service.js'
import { embeddingOf } from '../../support/word-models.js'

let tandem: TestService
interface Reply {
  response_type: string
  embeddings: Record<string, (number[] | string)[]>
}

beforeAll(async () => {
  tandem = await startTestService()
})
afterAll(() => tandem.end())

const dataUri = (word: string): string =>
  `data:image/png;base64,${Buffer.from(word).toString('base64')}`
const post = (url: string, payload: object) => tandem.app.inject({ method: 'POST', url, payload })
const floats = (rows: unknown): Float32Array[] =>
  (rows as number[][]).map((row) => Float32Array.from(row))

describe('POST /v1/embed', () => {
  it('has a list of embeddings where no types are named, and the fields that clients read', async () => {
    const reply = await post('/v1/embed', { model: 'words', texts: ['dog', 'cat'], truncate: null })
    const { embeddings, ...rest } = reply.json<{ embeddings: number[][] }>()
    expect(floats(embeddings)).toEqual([embeddingOf('dog'), embeddingOf('cat')])
    expect(rest).toEqual({
      id: expect.any(String) as string,
      response_type: 'embeddings_floats',
      texts: ['dog', 'cat'],
      meta: { api_version: { version: '1' }, billed_units: { input_tokens: 0, images: 0 } },
    })
  })

  it('has embeddings by type where types are named', async () => {
    const payload = { texts: ['dog'], embedding_types: ['float', 'base64', 'binary', 'ubinary'] }
    const { response_type: type, embeddings } = (await post('/v1/embed', payload)).json<Reply>()
    expect([type, Object.keys(embeddings)]).toEqual(['embeddings_by_type', payload.embedding_types])
    const bytes = Buffer.from(String(embeddings['base64']?.[0]), 'base64')
    expect(new Float32Array(new Uint8Array(bytes).buffer)).toEqual(embeddingOf('dog'))
  })
})

describe('POST /v2/embed', () => {
  it.each([
    [{ texts: ['dog'], images: null, embedding_types: ['float'] }],
    [{ images: [dataUri('dog')] }],
    [{ inputs: [{ content: [{ type: 'text', text: 'dog' }] }] }],
    [{ inputs: [{ content: [{ type: 'image_url', image_url: { url: dataUri('dog') } }] }] }],
  ])('embeds %j', async (payload) => {
    const reply = await post('/v2/embed', { input_type: 'image', ...payload })
    expect(reply.statusCode, reply.body).toBe(200)
    const { response_type: type, embeddings } = reply.json<Reply>()
    expect(type).toBe('embeddings_by_type')
    expect(floats(embeddings['float'])).toEqual([embeddingOf('dog')])
  })

  it.each<[object, number, string]>([
    [
      {},
      422,
      'exactly one of texts, images and inputs, with at least one entry; the body has none',
    ],
    [{ texts: [] }, 422, 'the body has none of them'],
    [{ texts: ['a'], images: [dataUri('a')] }, 422, 'the body has texts and images'],
    [{ texts: ['a', ' '] }, 422, 'texts[1] is " "'],
    [{ texts: ['a'], embedding_types: ['int8'] }, 422, 'embedding_types[0] is "int8"'],
    [{ texts: ['a'], output_dimension: 256 }, 422, 'output_dimension is 256; expected 64'],
    [{ texts: ['a'], model: 'embed-v4.0' }, 404, '"embed-v4.0"'],
    [{ images: [dataUri('dog'), dataUri('bad')] }, 422, 'images[1]: The image is cut off.'],
    [{ inputs: [{ content: [{ type: 'audio' }] }] }, 422, 'inputs[0].content[0] is a part of type'],
  ])('refuses %j', async (payload, status, sentence) => {
    const reply = await post('/v2/embed', payload)
    expect(reply.statusCode).toBe(status)
    expect(reply.json<{ message: string }>().message).toContain(sentence)
  })
})
