import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestService, type TestService } from '../../support/test-service.js'
import { embeddingOf } from '../../support/word-models.js'

let tandem: TestService
interface Reply {
  object: string
  model: string
  data: { object: string; index: number; embedding: number[] | string }[]
  usage: object
}

beforeAll(async () => {
  tandem = await startTestService({ maxBatchItems: 4 })
})
afterAll(() => tandem.end())

const base64 = (word: string): string => Buffer.from(word).toString('base64')
const dataUri = (word: string): string => `data:image/jpeg;base64,${base64(word)}`
const post = (url: string, payload: object | string, headers = {}) =>
  tandem.app.inject({ method: 'POST', url, payload, headers })
const embed = (payload: object) => post('/v1/embeddings', payload)
const vectors = async (payload: object): Promise<Float32Array[]> => {
  const reply = await embed({ encoding_format: 'float', ...payload })
  expect(reply.statusCode, reply.body).toBe(200)
  return reply.json<Reply>().data.map(({ embedding }) => Float32Array.from(embedding as number[]))
}

describe.each(['/v1/embeddings', '/embeddings'])('POST %s', (url) => {
  it('embeds a text in the form of OpenAI', async () => {
    const reply = await post(url, { model: 'words', input: 'a dog' })
    expect(reply.headers['content-type']).toBe('application/json; charset=utf-8')
    expect(reply.json()).toEqual({
      object: 'list',
      model: 'words',
      data: [{ object: 'embedding', index: 0, embedding: expect.any(Array) as number[] }],
      usage: { prompt_tokens: 0, total_tokens: 0 },
    })
  })
})

describe('POST /v1/embeddings', () => {
  it('gives the float32 values of /embed to the bit, as numbers and as base64', async () => {
    const own = await post('/embed', { inputs: [{ text: 'a dog' }] })
    const [{ embedding: expected } = { embedding: [] }] = own.json<{
      embeddings: { embedding: number[] }[]
    }>().embeddings
    const [floats] = await vectors({ input: 'a dog' })
    expect(floats).toEqual(Float32Array.from(expected))
    const reply = await embed({ input: 'a dog', encoding_format: 'base64' })
    const bytes = Buffer.from(reply.json<Reply>().data[0]?.embedding as string, 'base64')
    expect(new Float32Array(new Uint8Array(bytes).buffer)).toEqual(Float32Array.from(expected))
  })

  it.each<[string, object]>([
    ['a data-URI', { input: dataUri('dog') }],
    ['a string of modality image', { input: [base64('dog')], modality: 'image' }],
    ['an object of Jina', { input: [{ image: base64('dog') }] }],
    ['a part of OpenAI', { input: [[{ type: 'image_url', image_url: { url: dataUri('dog') } }]] }],
    [
      'messages of vLLM, whose texts are instructions beside an image',
      {
        messages: [
          { role: 'system', content: 'Represent images.' },
          {
            role: 'user',
            content: [
              { type: 'image_url', image_url: { url: dataUri('dog') } },
              { type: 'text', text: 'Represent the given image.' },
            ],
          },
        ],
      },
    ],
  ])('reads an image as %s', async (_form, payload) => {
    expect(await vectors(payload)).toEqual([embeddingOf('dog')])
  })

  it('keeps the order of mixed texts and images', async () => {
    const input = ['cat', { image: base64('dog') }, { text: 'horse' }, dataUri('zebra')]
    const expected = ['cat', 'dog', 'horse', 'zebra'].map(embeddingOf)
    expect(await vectors({ input })).toEqual(expected)
  })

  it('reads a data-URI of modality text as a text', async () => {
    expect(await vectors({ input: dataUri('dog'), modality: 'text' })).toEqual([
      embeddingOf(dataUri('dog')),
    ])
  })

  it('embeds a text and an image as the normalised sum of both', async () => {
    const [both = new Float32Array()] = await vectors({
      input: [[{ text: 'cat' }, { image: base64('dog') }]],
    })
    const [cat, dog] = [embeddingOf('cat'), embeddingOf('dog')]
    const sum = cat.map((value, at) => value + (dog[at] ?? 0))
    const length = Math.hypot(...sum)
    both.forEach((value, at) => expect(value).toBeCloseTo((sum[at] ?? 0) / length, 6))
  })

  it('packs the signs of the values into bits', async () => {
    const [signs = []] = (await embed({ input: 'a dog', embedding_type: 'ubinary' }))
      .json<Reply>()
      .data.map(({ embedding }) => embedding as number[])
    const bits = signs.flatMap((byte) => [...byte.toString(2).padStart(8, '0')].map(Number))
    expect(bits).toEqual([...embeddingOf('a dog')].map((value) => (value > 0 ? 1 : 0)))
    const signed = (await embed({ input: 'a dog', embedding_type: 'binary' })).json<Reply>()
    expect(signed.data[0]?.embedding).toEqual(signs.map((byte) => byte - 128))
  })

  it('ignores unknown fields and parameters, and takes null for an absent field', async () => {
    const payload = { input: 'a dog', user: 'u', dimensions: null, truncate: 'END', modality: null }
    const reply = await post('/v1/embeddings?api-version=1', payload)
    expect(reply.statusCode).toBe(200)
  })

  it.each([undefined, 'text/plain;charset=UTF-8'])(
    'reads JSON of the Content-Type %s',
    async (type) => {
      const headers = type === undefined ? {} : { 'content-type': type }
      const reply = await post('/v1/embeddings', Buffer.from('{"input": "a dog"}'), headers)
      expect(reply.statusCode, reply.body).toBe(200)
    },
  )

  it.each<[object, number, string]>([
    [{}, 422, 'input is missing'],
    [{ input: [] }, 422, 'input is an empty list'],
    [{ input: ['a', ''] }, 422, 'input[1] is ""; expected a text with at least one visible'],
    [{ input: [[97, 32]] }, 422, 'token ids'],
    [{ input: [97, 32] }, 422, 'check_embedding_ctx_length=False'],
    [{ input: 7 }, 422, 'input is 7; expected a text, {text}'],
    [{ input: [{ id: 'dog' }] }, 422, 'input[0] is the id of an item; expected'],
    [{ input: [[{ type: 'video_url', video_url: {} }]] }, 422, 'a part of type "video_url"'],
    [{ input: 'a', dimensions: 32 }, 422, 'dimensions is 32; expected 64'],
    [{ input: 'a', encoding_format: 'int8' }, 422, 'encoding_format is "int8"; expected'],
    [{ input: 'a', model: 'other' }, 404, 'The model is "other"; this service serves "words"'],
    [{ input: ['1', '2', '3', '4', '5'] }, 413, 'input has 5 entries; expected at most 4'],
    [{ input: ['a', { image: base64('bad') }] }, 422, 'input[1]: The image is cut off.'],
    [{ input: [{ image: 'http://elsewhere/a.jpg' }] }, 422, 'input[0]'],
    [{ messages: [{ role: 'user' }] }, 422, 'content is missing in messages[0]; expected a text'],
  ])('refuses %j', async (payload, status, sentence) => {
    const reply = await embed(payload)
    expect(reply.statusCode).toBe(status)
    const { detail, code, error, message } = reply.json<Record<string, unknown>>()
    expect(detail).toContain(sentence)
    expect(message).toBe(detail)
    expect(error).toEqual({
      message: detail,
      type: status === 404 ? 'not_found_error' : 'invalid_request_error',
      param: null,
      code,
    })
  })

  it('refuses another Content-Type', async () => {
    const reply = await post('/v1/embeddings', 'input=a', { 'content-type': 'text/csv' })
    expect(reply.json()).toMatchObject({ status: 415, error: { code: 'media_type_unsupported' } })
  })
})

describe('GET /v1/models', () => {
  const model = {
    ...{ id: 'words', object: 'model', created: 0, owned_by: 'tandem', version: '1.0.0' },
    ...{ capabilities: ['embed', 'image_embed', 'rerank'], dim: 64, languages: ['en'] },
    ...{ license: '', calibrated: true },
    ...{ rerank: true, stats: { queue_absolute: 0, results_pending: 0 } },
  }

  it.each([
    ['/v1/models', 'tandem'],
    ['/models', 'infinity'],
  ])('lists the bundle that serves at %s, owned by %s', async (url, owner) => {
    const data = [{ ...model, owned_by: owner }]
    expect((await tandem.app.inject(url)).json()).toEqual({ object: 'list', data })
  })

  it('names the bundle, and no other', async () => {
    expect((await tandem.app.inject('/v1/models/words')).json()).toEqual(model)
    const other = await tandem.app.inject('/v1/models/gpt-5')
    expect(other.json()).toMatchObject({ status: 404, error: { code: 'model_not_found' } })
  })
})

describe('an address of OpenAI that is not served', () => {
  it('is answered with an error that its clients read', async () => {
    const reply = await post('/v1/chat/completions', {})
    expect(reply.json()).toMatchObject({
      status: 404,
      error: { message: 'There is no route /v1/chat/completions; see /docs.' },
    })
    const wrong = await tandem.app.inject('/v1/embeddings')
    expect(wrong.headers.allow).toBe('POST')
    expect(wrong.json()).toMatchObject({ status: 405, error: { code: 'method_not_allowed' } })
  })
})
