import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestService, type TestService } from '../../support/test-service.js'

let tandem: TestService
interface Reply {
  model: string
  results: {
    index: number
    relevance_score: number
    similarity: number
    match: number | null
    document?: object
  }[]
}

beforeAll(async () => {
  tandem = await startTestService({ maxBatchItems: 4 })
  await tandem.retrieval.add({ id: 'dog', image: Buffer.from('dog 3'), payload: null })
})
afterAll(() => tandem.end())

const image = (word: string) => ({ image: Buffer.from(word).toString('base64') })
const rerank = (body: object) =>
  tandem.app.inject({ method: 'POST', url: '/rerank', payload: body })

describe('POST /rerank', () => {
  it('orders images and stored items by their match with a text', async () => {
    const reply = await rerank({
      query: 'anything',
      documents: [image('a 1'), { id: 'dog' }, image('b 5')],
    })
    const { model, results } = reply.json<Reply>()
    expect(model).toBe('words')
    expect(results.map(({ index }) => index)).toEqual([2, 1, 0])
    for (const { relevance_score: relevance, match } of results) expect(relevance).toBe(match)
  })

  it('orders texts by their match with an image', async () => {
    const { results } = (
      await rerank({ query: image('dog 2'), documents: ['dog', { text: 'cat' }] })
    ).json<Reply>()
    expect(results).toHaveLength(2)
    for (const { match } of results) expect(match).toBeCloseTo(1 / (1 + Math.exp(-2)))
  })

  it.each([
    ['texts', 'horse', ['cat', 'horse', 'zebra horse']],
    ['images', image('horse'), [image('cat'), image('horse'), image('zebra horse')]],
  ])(
    'orders %s for a query of their kind by similarity, without a match',
    async (_kind, query, documents) => {
      const { results } = (await rerank({ query, documents })).json<Reply>()
      expect(results.map(({ index }) => index)).toEqual([1, 2, 0])
      for (const { relevance_score: relevance, match } of results) {
        expect(match).toBeNull()
        expect(relevance).toBeGreaterThanOrEqual(0)
        expect(relevance).toBeLessThanOrEqual(1)
      }
    },
  )

  it('cuts to top_n and repeats texts and ids on request', async () => {
    const documents = ['horse', { id: 'dog' }, { text: 'cat' }, image('dog')]
    const all = (await rerank({ query: 'dog', documents, return_documents: true })).json<Reply>()
      .results
    const byIndex = all.toSorted((a, b) => a.index - b.index).map(({ document }) => document)
    expect(byIndex).toEqual([{ text: 'horse' }, { id: 'dog' }, { text: 'cat' }, {}])
    const top = (await rerank({ query: 'dog', documents, top_n: 2 })).json<Reply>().results
    expect(top).toEqual(all.slice(0, 2).map((result) => ({ ...result, document: undefined })))
  })

  it.each([
    [{ query: 'a' }, 422, 'documents is missing'],
    [{ query: 'a', documents: [] }, 422, 'documents is an empty list; expected'],
    [{ query: '', documents: ['a'] }, 422, 'query is ""; expected'],
    [{ query: 'a', documents: [7] }, 422, 'documents[0] is 7; expected a string, or an object'],
    [
      { query: 'a', documents: ['a', {}] },
      422,
      'documents[1] is an empty object; expected an object with exactly one of',
    ],
    [
      { query: 'a', documents: [{ text: 'a', id: 'dog' }] },
      422,
      'documents[0] is an object with text, id; expected',
    ],
    [{ query: 'a', documents: [{ url: 'x' }] }, 422, '"url" in documents[0] is not a known field'],
    [{ query: 'a', documents: ['a'], top_n: 0 }, 422, 'top_n is 0; expected'],
    [{ query: 'a', documents: ['a'], model: 'x' }, 422, '"model" is not a known field'],
    [
      { query: 'a', documents: ['1', '2', '3', '4', '5'] },
      413,
      'documents has 5 entries; expected at most 4',
    ],
    [{ query: 'a', documents: [{ id: 'nobody' }] }, 404, '"nobody"'],
    [{ query: 'a', documents: ['a', image('bad')] }, 422, 'documents[1]: The image is cut off.'],
  ])('refuses %j', async (body, status, sentence) => {
    const reply = await rerank(body)
    expect(reply.statusCode).toBe(status)
    expect(reply.json<{ detail: string }>().detail).toContain(sentence)
  })
})
