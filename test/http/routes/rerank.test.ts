import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestService, type TestService } from '../../support/test-service.js'

let tandem: TestService
interface Reply {
  model: string
  ordered_by: string
  notices: { code: string; language: string | null; documents?: number[] }[]
  results: {
    index: number
    relevance_score: number
    similarity: number
    match: number | null
    document?: object
  }[]
}

beforeAll(async () => {
  tandem = await startTestService({ maxBatchItems: 4, dialects: [] })
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
    const { model, ordered_by: orderedBy, results } = reply.json<Reply>()
    expect(model).toBe('words')
    expect(orderedBy).toBe('match')
    expect(results.map(({ index }) => index)).toEqual([2, 1, 0])
    for (const { relevance_score: relevance, match } of results) expect(relevance).toBe(match)
  })

  it('orders texts by their match with an image', async () => {
    const { ordered_by: orderedBy, results } = (
      await rerank({ query: image('dog 2'), documents: ['dog', { text: 'cat' }] })
    ).json<Reply>()
    expect(orderedBy).toBe('match')
    expect(results).toHaveLength(2)
    for (const { match } of results) expect(match).toBeCloseTo(1 / (1 + Math.exp(-2)))
  })

  it.each([
    ['texts', 'horse', ['cat', 'horse', 'zebra horse']],
    ['images', image('horse'), [image('cat'), image('horse'), image('zebra horse')]],
  ])(
    'orders %s for a query of their kind by similarity, without a match',
    async (_kind, query, documents) => {
      const reply = (await rerank({ query, documents })).json<Reply>()
      const { ordered_by: orderedBy, results } = reply
      expect(orderedBy).toBe('similarity')
      expect(results.map(({ index }) => index)).toEqual([1, 2, 0])
      for (const { relevance_score: relevance, match } of results) {
        expect(match).toBeNull()
        expect(relevance).toBeGreaterThanOrEqual(0)
        expect(relevance).toBeLessThanOrEqual(1)
      }
    },
  )

  it.each([
    [
      'texts',
      ['horse', { text: 'cat' }, 'dog'],
      [{ text: 'horse' }, { text: 'cat' }, { text: 'dog' }],
    ],
    ['ids', [image('dog 1'), { id: 'dog' }, image('cat')], [{}, { id: 'dog' }, {}]],
  ])('cuts to top_n and repeats %s on request', async (_kind, documents, repeated) => {
    const all = (await rerank({ query: 'dog', documents, return_documents: true })).json<Reply>()
      .results
    const byIndex = all.toSorted((a, b) => a.index - b.index).map(({ document }) => document)
    expect(byIndex).toEqual(repeated)
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
    [
      { query: 'a', documents: [image('a'), image('bad')] },
      422,
      'documents[1]: The image is cut off.',
    ],
  ])('refuses %j', async (body, status, sentence) => {
    const reply = await rerank(body)
    expect(reply.statusCode).toBe(status)
    expect(reply.json<{ detail: string }>().detail).toContain(sentence)
  })

  it.each([
    ['a text', 'a dog'],
    ['an image', image('dog')],
    ['an id', { id: 'dog' }],
  ])('refuses texts and images in one list for %s, before the model runs', async (_kind, query) => {
    const calls = tandem.models.embeddingOnly.length
    const mixed = [
      { documents: ['a cat', 'a dog', image('dog 3')], named: [0, 2] },
      { documents: [{ id: 'dog' }, { text: 'a cat' }], named: [1, 0] },
    ]
    for (const { documents, named } of mixed) {
      const reply = await rerank({ query, documents })
      expect(reply.statusCode).toBe(422)
      const { code, detail } = reply.json<{ code: string; detail: string }>()
      expect(code).toBe('documents_mixed')
      const [text, imageAt] = named
      expect(detail).toContain(`documents[${text}] is a text and documents[${imageAt}] an image`)
    }
    expect(tandem.models.embeddingOnly).toHaveLength(calls)
  })

  const french = 'deux filles jouent dans la cour'

  it('gives no match for a query in a language that the bundle does not speak', async () => {
    const documents = [image('cat 9'), { id: 'dog' }]
    const reply = (await rerank({ query: french, documents })).json<Reply>()
    expect(reply.ordered_by).toBe('similarity')
    expect(reply.notices).toMatchObject([{ code: 'language_not_spoken', language: 'fr' }])
    expect(reply.notices[0]).not.toHaveProperty('documents')
    for (const { match, relevance_score: relevance, similarity } of reply.results) {
      expect(match).toBeNull()
      expect(relevance).toBe(Math.max(0, similarity))
    }
    const named = (await rerank({ query: french, documents, language: 'en' })).json<Reply>()
    expect(named).toMatchObject({ ordered_by: 'match', notices: [] })
    expect(named.results.map(({ index }) => index)).toEqual([0, 1])
  })

  it('puts documents in such a language last, without a match, and names them', async () => {
    const documents = [french, 'a dog', '在玩滑板的两个女孩', 'a cat']
    const reply = (await rerank({ query: image('dog 2'), documents })).json<Reply>()
    expect(reply.ordered_by).toBe('match')
    expect(reply.results.map(({ index }) => index)).toEqual([1, 3, 0, 2])
    expect(reply.results.slice(2)).toMatchObject([
      { match: null, relevance_score: 0 },
      { match: null, relevance_score: 0 },
    ])
    expect(reply.notices).toMatchObject([
      { code: 'language_not_spoken', language: 'fr', documents: [0] },
      { code: 'language_not_spoken', language: 'zh', documents: [2] },
    ])
  })

  it('orders by similarity if no document has a match', async () => {
    const reply = (await rerank({ query: image('dog 2'), documents: [french] })).json<Reply>()
    expect(reply).toMatchObject({ ordered_by: 'similarity', results: [{ match: null }] })
  })

  it('has no notices for texts that the bundle understands', async () => {
    const reply = await rerank({ query: 'a dog on the beach', documents: ['a cat', 'paella'] })
    expect(reply.json<Reply>().notices).toEqual([])
  })
})
