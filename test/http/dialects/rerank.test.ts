import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestService, type TestService } from '../../support/test-service.js'

let tandem: TestService
interface Reply {
  ordered_by: string
  results: { index: number; relevance_score: number; match: number | null; document?: unknown }[]
  data: { index: number; relevance_score: number }[]
  meta: { api_version: { version: string }; warnings?: string[] }
}

beforeAll(async () => {
  tandem = await startTestService({ maxBatchItems: 6 })
  for (const id of ['dog 3', 'dog 1', 'dog 5', 'cat 2'])
    await tandem.retrieval.add({ id, image: Buffer.from(id), payload: null })
})
afterAll(() => tandem.end())

const base64 = (word: string): string => Buffer.from(word).toString('base64')
const dataUri = (word: string): string => `data:image/png;base64,${base64(word)}`
const post = (url: string, payload: object) => tandem.app.inject({ method: 'POST', url, payload })
const rerank = async (payload: object, url = '/v1/rerank'): Promise<Reply> => {
  const reply = await post(url, payload)
  expect(reply.statusCode, reply.body).toBe(200)
  return reply.json<Reply>()
}

describe('the rerank of other services', () => {
  it('has the fields that the clients of each of them read', async () => {
    const reply = await post('/v2/rerank', {
      model: 'any',
      query: 'dog',
      documents: ['cat', 'dog'],
    })
    const scores = [
      { index: 1, relevance_score: expect.closeTo(1) as number },
      { index: 0, relevance_score: 0 },
    ]
    expect(reply.json()).toEqual({
      ...{
        id: expect.any(String) as string,
        object: 'rerank',
        created: expect.any(Number) as number,
      },
      ...{ model: 'words', ordered_by: 'similarity' },
      results: [
        {
          ...scores[0],
          similarity: expect.closeTo(1) as number,
          match: null,
          document: { text: 'dog' },
        },
        { ...scores[1], similarity: 0, match: null, document: { text: 'cat' } },
      ],
      data: scores,
      usage: { prompt_tokens: 0, total_tokens: 0 },
      meta: {
        api_version: { version: '2' },
        billed_units: { search_units: 0 },
        warnings: [expect.stringContaining('no match')],
      },
    })
  })

  it.each<[string, (word: string) => unknown]>([
    ['strings with a data-URI', dataUri],
    ['{image}', (word) => ({ image: base64(word) })],
    [
      '{image} with other fields',
      (word) => ({ id: 7, title: 'x', text: null, image: base64(word) }),
    ],
    ['{image_url: {url}}', (word) => ({ image_url: { url: dataUri(word) } })],
    [
      'parts with content',
      (word) => ({ content: [{ type: 'image_url', image_url: { url: dataUri(word) } }] }),
    ],
    ['bare parts', (word) => [{ type: 'image_url', image_url: dataUri(word) }]],
    ['{text, image}', (word) => ({ text: 'a caption', image: base64(word) })],
    ['{id}', (id) => ({ id })],
  ])('orders images given as %s as /search does', async (_form, documentOf) => {
    const { hits } = (await tandem.app.inject('/search?q=dog')).json<{ hits: { id: string }[] }>()
    const ids = ['cat 2', 'dog 1', 'dog 3', 'dog 5']
    for (const query of ['dog', { text: 'dog' }, { content: [{ type: 'text', text: 'dog' }] }]) {
      const { results, ordered_by: orderedBy } = await rerank({
        query,
        documents: ids.map(documentOf),
      })
      expect(results.map(({ index }) => ids[index])).toEqual(hits.map(({ id }) => id))
      expect(orderedBy).toBe('match')
    }
  })

  it('compares an image with the text of a document that has both', async () => {
    const documents = [{ text: 'dog', image: base64('cat 9') }]
    const { results, meta } = await rerank({ query: { image: base64('dog 2') }, documents })
    expect(results[0]?.match).toBeCloseTo(1 / (1 + Math.exp(-2)))
    expect(meta.warnings).toEqual([expect.stringContaining('a text and an image')])
  })

  it('returns every document without top_n, with 0 and with null, and cuts to top_n or top_k', async () => {
    const documents = ['cat', 'dog', 'horse']
    for (const more of [{}, { top_n: 0 }, { top_n: null }, { top_k: null }])
      expect((await rerank({ query: 'dog', documents, ...more })).results).toHaveLength(3)
    for (const more of [{ top_n: 2 }, { top_k: 2 }]) {
      const { results, data } = await rerank({ query: 'dog', documents, ...more })
      expect([results.length, data.length]).toEqual([2, 2])
    }
  })

  it('repeats texts alone, and no document at /rerank, where LiteLLM reads two types', async () => {
    const images = { query: 'dog', documents: [{ image: base64('dog') }, { id: 'dog 1' }] }
    for (const result of (await rerank(images)).results)
      expect(result).not.toHaveProperty('document')
    const texts = { model: 'any', query: 'dog', documents: ['cat'], return_documents: true }
    expect((await rerank(texts)).results[0]).toMatchObject({ document: { text: 'cat' } })
    expect((await rerank(texts, '/rerank')).results[0]).not.toHaveProperty('document')
  })

  it('says which texts the bundle does not understand', async () => {
    const french = 'un chien court sur la plage avec un ballon rouge'
    const ofQuery = await rerank({ query: french, documents: [dataUri('dog 1')] })
    expect([ofQuery.ordered_by, ofQuery.meta.warnings]).toEqual([
      'similarity',
      [
        expect.stringContaining('does not understand'),
        expect.stringMatching(/^The query seems to be in French/),
      ],
    ])
    const ofDocument = await rerank({ query: dataUri('dog 1'), documents: ['dog', french] })
    expect([ofDocument.ordered_by, ofDocument.meta.warnings]).toEqual([
      'match',
      [expect.stringMatching(/^documents\[1] seems to be in French/)],
    ])
  })

  it('leaves out the documents on request', async () => {
    const payload = { query: 'dog', documents: ['cat'], return_documents: false }
    expect((await rerank(payload)).results[0]).not.toHaveProperty('document')
  })

  it('takes one document outside a list', async () => {
    expect(
      (await rerank({ query: 'dog', documents: { content: [{ text: 'dog' }] } })).results,
    ).toHaveLength(1)
  })

  it.each<[object, number, string]>([
    [{ documents: ['a'] }, 422, 'query is missing'],
    [{ query: 'a' }, 422, 'documents is missing'],
    [{ query: 'a', documents: [] }, 422, 'documents is an empty list'],
    [{ query: 'a', documents: ['a', ''] }, 422, 'documents[1] is ""; expected'],
    [
      { query: 'a', documents: [{ title: 'a' }] },
      422,
      'documents[0] is an object with title; expected',
    ],
    [{ query: 'a', documents: [{ text: 7 }] }, 422, 'documents[0] is an object with text'],
    [{ query: 'a', documents: ['a'], top_n: -1 }, 422, 'top_n is -1; expected'],
    [
      { query: 'a', documents: [{ title: 'a' }], rank_fields: ['title'] },
      422,
      'rank_fields[0] is "title"',
    ],
    [
      { query: 'a', documents: ['a', { image: base64('b') }] },
      422,
      'documents[0] is a text and documents[1] an image',
    ],
    [
      { query: [{ text: 'a' }, { image: base64('b') }], documents: ['a'] },
      422,
      'query is a text and an image',
    ],
    [{ query: 'a', documents: [[dataUri('a'), dataUri('b')]] }, 422, 'documents[0] has 2 images'],
    [{ query: 'a', documents: [{ id: 'nobody' }] }, 404, 'nobody'],
    [
      { query: 'a', documents: Array(7).fill('a') },
      413,
      'documents has 7 entries; expected at most 6',
    ],
  ])('refuses %j', async (payload, status, sentence) => {
    const reply = await post('/v1/rerank', payload)
    expect(reply.statusCode).toBe(status)
    const { detail, message, error } = reply.json<{
      detail: string
      message: string
      error: object
    }>()
    expect(detail).toContain(sentence)
    expect([message, error]).toEqual([detail, expect.objectContaining({ message: detail })])
  })
})

describe('POST /rerank', () => {
  const own = { query: 'dog', documents: ['cat', 'dog'] }

  it('answers a body that names a model as the services of its clients do', async () => {
    expect(await rerank({ ...own, model: 'any', top_n: 1 }, '/rerank')).toMatchObject({
      object: 'rerank',
      results: [{ index: 1, relevance_score: expect.closeTo(1) as number }],
    })
  })

  it('answers infinity with the text of a document on request, and raw scores', async () => {
    const body = { query: { image: base64('dog 2') }, documents: ['dog'], raw_scores: true }
    const { results } = await rerank({ ...body, return_documents: true }, '/rerank')
    expect(results[0]).toMatchObject({ relevance_score: 2, document: 'dog' })
    expect((await rerank(body, '/rerank')).results[0]).not.toHaveProperty('document')
  })

  it('stays strict for our own body', async () => {
    const reply = await post('/rerank', { ...own, topn: 1 })
    expect(reply.json()).toMatchObject({
      status: 422,
      detail: expect.stringContaining('"topn"') as string,
    })
    expect((await post('/rerank', own)).json()).not.toHaveProperty('object')
  })

  it('says in the form of the clients what is wrong with their body', async () => {
    const reply = await post('/rerank', { model: 'any', query: 'dog' })
    expect(reply.json()).toMatchObject({
      status: 422,
      error: { message: expect.stringContaining('documents is missing') as string },
    })
  })
})

describe('the scores of vLLM', () => {
  it.each(['/score', '/v1/score'])(
    'score one query with each document in their order at %s',
    async (url) => {
      const reply = await post(url, { model: 'any', text_1: 'dog', text_2: ['cat', 'dog'] })
      expect(reply.json()).toEqual({
        ...{
          id: expect.any(String) as string,
          object: 'list',
          created: expect.any(Number) as number,
        },
        model: 'words',
        data: [
          { index: 0, object: 'score', score: 0 },
          { index: 1, object: 'score', score: expect.closeTo(1) as number },
        ],
        usage: { prompt_tokens: 0, total_tokens: 0 },
        warnings: [expect.stringContaining('no match')],
      })
    },
  )

  it.each([
    ['text_1', 'text_2'],
    ['data_1', 'data_2'],
    ['queries', 'documents'],
    ['queries', 'items'],
  ])('score the pairs of %s and %s', async (first, second) => {
    const image = (word: string) => ({
      content: [{ type: 'image_url', image_url: { url: dataUri(word) } }],
    })
    const body = {
      [first]: ['dog', 'cat', 'cow'],
      [second]: [image('dog 1'), image('cat 2'), image('cow 3')],
    }
    const reply = (await post('/score', body)).json<{ data: { score: number }[] }>()
    const { data } = reply
    expect(reply).not.toHaveProperty('warnings')
    const sigmoid = (logit: number): number => 1 / (1 + Math.exp(-logit))
    const scores = data.map(({ score }) => score)
    expect(scores).toEqual(
      [sigmoid(1), sigmoid(2), sigmoid(3)].map((score) => expect.closeTo(score) as number),
    )
  })

  const french = 'un chien court sur la plage avec un ballon rouge'

  it('give a pair without a match 0 where others have one, and say why', async () => {
    const reply = await post('/score', {
      queries: [french, 'dog'],
      documents: [dataUri('dog 1'), dataUri('dog 3')].map((url) => ({ image: url })),
    })
    const { data, warnings } = reply.json<{ data: { score: number }[]; warnings: string[] }>()
    expect(data.map(({ score }) => score)).toEqual([
      0,
      expect.closeTo(1 / (1 + Math.exp(-3))) as number,
    ])
    expect(warnings).toEqual([
      expect.stringMatching(/^queries\[0] with documents\[0]: The query seems to be in French/),
    ])
  })

  it.each<[object, number, string]>([
    [{}, 422, 'text_1 is missing'],
    [
      { text_1: ['dog', 'cat'], text_2: ['dog', { image: base64('cat 2') }] },
      422,
      'text_1[1] with text_2[1] is a text and an image, and text_1[0] with text_2[0] two texts',
    ],
    [{ queries: 'a' }, 422, 'documents is missing'],
    [{ text_1: ['a', 'b'], text_2: ['a'] }, 422, 'text_1 has 2 entries and text_2 1'],
    [
      { text_1: ['a', 'b'], text_2: [{ image: base64('dog') }, { image: base64('bad') }] },
      422,
      'text_2[1]: The image is cut off.',
    ],
    [{ text_1: Array(7).fill('a'), text_2: Array(7).fill('a') }, 413, 'text_1 has 7 entries'],
    [{ text_1: [], text_2: [] }, 422, 'text_1 is an empty list'],
  ])('refuse %j', async (body, status, sentence) => {
    const reply = await post('/score', body)
    expect([reply.statusCode, reply.json<{ detail: string }>().detail]).toEqual([
      status,
      expect.stringContaining(sentence),
    ])
  })
})
