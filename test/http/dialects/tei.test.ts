import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestService, type TestService } from '../../support/test-service.js'
import { embeddingOf } from '../../support/word-models.js'

let tandem: TestService

beforeAll(async () => {
  tandem = await startTestService()
})
afterAll(() => tandem.end())

const post = (url: string, payload: object) => tandem.app.inject({ method: 'POST', url, payload })

describe('the bodies of text-embeddings-inference', () => {
  it.each([['a dog'], [['a dog']]])('are embedded at /embed: %j', async (inputs) => {
    const reply = await post('/embed', { inputs, truncate: true, normalize: true })
    expect(reply.headers['content-type']).toBe('application/json; charset=utf-8')
    const rows = reply.json<number[][]>().map((row) => Float32Array.from(row))
    expect(rows).toEqual([embeddingOf('a dog')])
  })

  it('are ranked at /rerank', async () => {
    const body = { query: 'dog', texts: ['cat', 'dog'], truncate: null, return_text: true }
    const ranked = await post('/rerank', body)
    // Its list has no place for the reason why there is no match.
    expect(JSON.parse(String(ranked.headers['x-warnings']))).toEqual([
      expect.stringContaining('no match'),
    ])
    expect(ranked.json()).toEqual([
      { index: 1, score: expect.closeTo(1) as number, text: 'dog' },
      { index: 0, score: 0, text: 'cat' },
    ])
    const image = `data:image/png;base64,${Buffer.from('dog 3').toString('base64')}`
    const raw = { query: 'dog', texts: [image], raw_scores: true, return_text: true }
    const matched = await post('/rerank', raw)
    expect(matched.json()).toEqual([{ index: 0, score: 3 }])
    expect(matched.headers).not.toHaveProperty('x-warnings')
  })

  it.each<[string, object, string]>([
    ['/embed', { inputs: [[1, 2]] }, 'inputs has token ids'],
    ['/embed', { inputs: ['a', ''] }, 'inputs[1] is ""'],
    ['/embed', { inputs: 'a', dimensions: 3 }, 'dimensions is 3; expected 64'],
    ['/rerank', { query: 'a', texts: [] }, 'documents is an empty list'],
    ['/rerank', { texts: ['a'] }, 'query is missing'],
  ])('are refused with a sentence at %s: %j', async (url, body, sentence) => {
    const reply = await post(url, body)
    expect(reply.statusCode).toBe(422)
    expect(reply.json<{ detail: string }>().detail).toContain(sentence)
  })

  it.each<[string, object]>([
    ['/embed', { inputs: [{ text: 'a' }], truncate: true }],
    ['/embed', { inputs: [] }],
    ['/embed', { inputs: [7, { text: 'a' }], encoding_format: 'x' }],
  ])('leave our own bodies strict at %s: %j', async (url, body) => {
    expect((await post(url, body)).statusCode).toBe(422)
  })
})

describe('DIALECTS=none', () => {
  it('leaves only our own addresses and bodies', async () => {
    const own = await startTestService({ dialects: [] })
    const status = async (url: string, payload: object): Promise<number> =>
      (await own.app.inject({ method: 'POST', url, payload })).statusCode
    expect(await status('/v1/embeddings', { input: 'a' })).toBe(404)
    expect(await status('/embed', { inputs: 'a' })).toBe(422)
    expect(await status('/rerank', { query: 'a', texts: ['a'] })).toBe(422)
    expect(await status('/embed', { inputs: [{ text: 'a' }] })).toBe(200)
    const page = await own.app.inject({ url: '/', headers: { accept: 'application/json' } })
    expect(page.headers['content-type']).toContain('text/html')
    await own.end()
  })
})
