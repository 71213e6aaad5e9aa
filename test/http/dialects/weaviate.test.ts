import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestService, type TestService } from '../../support/test-service.js'
import { embeddingOf } from '../../support/word-models.js'

let tandem: TestService

beforeAll(async () => {
  tandem = await startTestService()
})
afterAll(() => tandem.end())

const base64 = (word: string): string => Buffer.from(word).toString('base64')
/** Without a Content-Type, as the module sends it. */
const vectorize = (body: object) =>
  tandem.app.inject({
    method: 'POST',
    url: '/vectorize',
    payload: Buffer.from(JSON.stringify(body)),
  })

describe('the module multi2vec-clip of Weaviate', () => {
  it('gets the vectors of texts and images in their order', async () => {
    const reply = await vectorize({ texts: ['a dog', 'cat'], images: [base64('horse')] })
    const { textVectors, imageVectors, error } = reply.json<{
      textVectors: number[][]
      imageVectors: number[][]
      error: string
    }>()
    expect(textVectors.map((row) => Float32Array.from(row))).toEqual(
      ['a dog', 'cat'].map(embeddingOf),
    )
    expect(imageVectors.map((row) => Float32Array.from(row))).toEqual([embeddingOf('horse')])
    expect(error).toBe('')
  })

  it.each([{ texts: ['a'], images: null }, { texts: null, images: [base64('a')] }, {}])(
    'takes %j',
    async (body) => expect((await vectorize(body)).statusCode).toBe(200),
  )

  it.each<[object, string]>([
    [{ images: [base64('bad')] }, 'images[0]: The image is cut off.'],
    [{ texts: [''] }, 'texts[0] is ""; expected'],
    [{ texts: 'a' }, 'texts is "a"; expected a list of texts.'],
  ])('reads the sentence of a refusal in error: %j', async (body, sentence) => {
    const reply = await vectorize(body)
    expect([reply.statusCode, reply.json<{ error: string }>().error]).toEqual([
      422,
      sentence.endsWith('.') ? sentence : expect.stringContaining(sentence),
    ])
  })

  it('gets an object of the bundle, and 204 while the service is ready', async () => {
    expect((await tandem.app.inject('/meta')).json()).toEqual({
      model: 'words',
      version: '1.0.0',
      dim: 64,
    })
    for (const state of ['live', 'ready']) {
      const reply = await tandem.app.inject(`/.well-known/${state}`)
      expect([reply.statusCode, reply.body]).toEqual([204, ''])
    }
  })

  it('is told that a service is not ready', async () => {
    const starting = await startTestService({}, false)
    expect((await starting.app.inject('/.well-known/live')).statusCode).toBe(204)
    const reply = await starting.app.inject('/.well-known/ready')
    expect([reply.statusCode, reply.headers['retry-after']]).toEqual([503, '1'])
    await starting.end()
  })
})
