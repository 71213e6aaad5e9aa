import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestService, type TestService } from '../../support/test-service.js'

let tandem: TestService
interface Reply {
  hits: { id: string; score: number; similarity: number; match: number | null; payload: unknown }[]
  timings: Record<string, number>
}

// The number in an image is its match with any query: reranked, the largest number comes first.
const images = {
  dog: 'dog 3',
  puppy: 'dog puppy 5',
  cat: 'cat 9',
  horse: 'horse 1',
  zebra: 'zebra horse 9',
}

beforeAll(async () => {
  tandem = await startTestService()
  for (const [id, word] of Object.entries(images)) {
    await tandem.retrieval.add({ id, image: Buffer.from(word), payload: { word } })
  }
})
afterAll(() => tandem.end())

const get = (query: string) => tandem.app.inject(`/search?${query}`)
const post = (payload: object) => tandem.app.inject({ method: 'POST', url: '/search', payload })
const idsOf = (reply: { json: <T>() => T }): string[] =>
  reply.json<Reply>().hits.map(({ id }) => id)

describe('GET /search', () => {
  it('orders by match, returns it as score, and reports the stages', async () => {
    const reply = await get('q=dog&candidates=10')
    const { hits, timings } = reply.json<Reply>()
    expect(hits).toHaveLength(5)
    expect(hits.map(({ match }) => match)).toEqual(
      hits.map(({ match }) => match).toSorted((a, b) => Number(b) - Number(a)),
    )
    for (const { score, match } of hits) expect(score).toBe(match)
    expect(hits.find(({ id }) => id === 'dog')?.payload).toEqual({ word: 'dog 3' })
    expect(Object.keys(timings)).toEqual(
      expect.arrayContaining(['encode', 'recall', 'fetch', 'rerank', 'total', 'inference']),
    )
    expect(reply.headers['server-timing']).toMatch(/encode;dur=[\d.]+, .*rerank;dur=/)
  })

  it('reranks only the candidates: fewer of them exclude a distant item', async () => {
    expect(idsOf(await get('q=dog&k=1&candidates=5'))).not.toEqual(['dog'])
    expect(idsOf(await get('q=dog puppy&k=2&candidates=2'))).toEqual(['puppy', 'dog'])
  })

  it('without rerank orders by similarity, returns it as score, and has no match', async () => {
    const { hits } = (await get('q=horse&rerank=false')).json<Reply>()
    expect(hits.slice(0, 2).map(({ id }) => id)).toEqual(['horse', 'zebra'])
    for (const { score, similarity, match } of hits) {
      expect(score).toBe(similarity)
      expect(match).toBeNull()
    }
  })

  it('leaves out hits below min_match', async () => {
    const all = (await get('q=dog&k=5')).json<Reply>().hits
    const limit = all[2]?.match ?? 0
    expect(idsOf(await get(`q=dog&k=5&min_match=${limit}`))).toEqual(
      all.filter(({ match }) => Number(match) >= limit).map(({ id }) => id),
    )
  })

  it.each([
    ['', 'q is missing'],
    ['q=', 'q is ""'],
    ['q=%20%20', 'q is "  "'],
    ['q=dog&k=0', 'k is 0; expected a whole number from 1 to 1000'],
    ['q=dog&k=1000000000', 'k is 1000000000; expected'],
    ['q=dog&k=ten', 'k is "ten"; expected'],
    ['q=dog&k=2.5', 'k is "2.5"; expected'],
    ['q=dog&k=', 'k is ""; expected'],
    ['q=dog&k=1&k=2', 'k is a list of 2; expected'],
    ['q=dog&rerank=maybe', 'rerank is "maybe"; expected true or false'],
    ['q=dog&min_match=2', 'min_match is 2; expected a number from 0 to 1'],
    [
      'q=dog&limit=3',
      '"limit" is not a known parameter; expected one of: q, k, candidates, rerank, language, min_match, filter',
    ],
    ['q=dog&__proto__=3', '"__proto__" is not a known parameter'],
  ])('refuses "%s": %s', async (query, sentence) => {
    const reply = await get(query)
    expect(reply.statusCode).toBe(422)
    expect(reply.headers['content-type']).toMatch(/^application\/problem\+json/)
    expect(reply.json()).toMatchObject({ code: 'invalid_request', status: 422 })
    expect(reply.json<{ detail: string }>().detail).toContain(sentence)
  })

  it.each([
    ['q=dog&k=10&candidates=5', 'candidates is 5; expected at least k, which is 10'],
    ['q=dog&rerank=false&min_match=0.5', 'min_match is 0.5, but without rerank'],
  ])('refuses options that contradict each other: %s', async (query, sentence) => {
    const reply = await get(query)
    expect(reply.statusCode).toBe(422)
    expect(reply.json<{ code: string; detail: string }>()).toMatchObject({
      code: 'options_conflict',
    })
    expect(reply.json<{ detail: string }>().detail).toContain(sentence)
  })

  it('refuses a text above the limit, counted in characters', async () => {
    expect((await post({ text: '😀'.repeat(10_000) })).statusCode).toBe(200)
    const reply = await post({ text: 'x'.repeat(10_001) })
    expect(reply.json()).toMatchObject({ status: 422, code: 'text_too_long' })
    expect(reply.json<{ detail: string }>().detail).toContain(
      '10001 characters; expected at most 10000',
    )
  })
})

describe('a search with a filter', () => {
  const horses = {
    should: [
      { key: 'word', match: 'horse 1' },
      { key: 'word', range: { gt: 'y' } },
    ],
  }
  const inAddress = (filter: object): string =>
    `filter=${encodeURIComponent(JSON.stringify(filter))}`

  it('returns only items that meet the filter of an address, a body or a form', async () => {
    const form = new FormData()
    form.append('image', new Blob(['dog']), 'dog.jpg')
    form.append('filter', JSON.stringify(horses))
    const replies = [
      await get(`q=dog&${inAddress(horses)}`),
      await post({ text: 'dog', filter: horses }),
      await post({ text: 'dog', rerank: false, filter: horses }),
      await post({ id: 'dog', filter: horses }),
      await tandem.app.inject({ method: 'POST', url: '/search', payload: form }),
    ]
    for (const reply of replies) expect(idsOf(reply).sort()).toEqual(['horse', 'zebra'])
    expect(idsOf(await post({ id: 'zebra', filter: horses }))).toEqual(['horse'])
    expect(
      idsOf(await post({ text: 'dog', k: 1, candidates: 1, filter: { must_not: [horses] } })),
    ).toEqual(['dog'])
    expect(
      idsOf(await get(`q=dog&${inAddress({ must: [{ key: 'word', exists: false }] })}`)),
    ).toEqual([])
    expect(idsOf(await get(`q=dog&${inAddress({})}`))).toHaveLength(5)
  })

  it('uses the current payload of an item', async () => {
    const ask = () =>
      post({ text: 'dog', rerank: false, filter: { must: [{ key: 'seen', match: true }] } })
    expect(idsOf(await ask())).toEqual([])
    await tandem.retrieval.add({ id: 'wolf', image: Buffer.from('wolf'), payload: { seen: true } })
    expect(idsOf(await ask())).toEqual(['wolf'])
    await tandem.retrieval.add({ id: 'wolf', image: Buffer.from('wolf'), payload: { seen: false } })
    expect(idsOf(await ask())).toEqual([])
    await tandem.retrieval.remove('wolf')
  })

  it.each([
    ['{"must":', 'filter is not valid JSON: "{\\"must\\":"'],
    ['{"must":[],"must":[]}', 'filter has the name "must" twice in one object'],
    ['7', 'filter is 7; expected an object with must, should, must_not'],
    [
      '{"must":[{"key":"a"}]}',
      'filter.must[0] is an object with key; expected an object with key and one of match, range, exists',
    ],
    ['{"must":[{"key":"a","match":9007199254740993}]}', 'filter has the number 9007199254740993'],
  ])('is refused in an address: %s', async (filter, sentence) => {
    const reply = await get(`q=dog&filter=${encodeURIComponent(filter)}`)
    expect(reply.json()).toMatchObject({ status: 422, code: 'invalid_request' })
    expect(reply.json<{ detail: string }>().detail).toContain(sentence)
  })

  it.each([
    [7, 'filter is 7; expected an object with must, should, must_not'],
    ['{}', 'filter is "{}"; expected an object with must, should, must_not'],
    [
      { musst: [] },
      '"musst" in filter is not a known field; expected one of: must, should, must_not',
    ],
    [{ must: {} }, 'filter.must is an empty object; expected a list of conditions'],
    [
      { must: [{ key: 'a', match: null }] },
      'filter.must[0].match is null; expected a text, a number',
    ],
    [
      { must: [{ key: 'a', range: { gt: [] } }] },
      'filter.must[0].range.gt is an empty list; expected a number or a text',
    ],
    [
      { must: [{ key: 'a', range: {} }] },
      'filter.must[0].range is an empty object; expected one or more of',
    ],
    [
      { must: [{ must: [{ must: [{ key: 'a', match: {} }] }] }] },
      'filter.must[0].must[0].must[0].match is an empty object',
    ],
    [
      { must: [{ key: 'a', exists: true, match: 1 }] },
      'filter.must[0] is an object with key, exists, match; expected',
    ],
  ])('is refused in a body: %j', async (filter, sentence) => {
    const reply = await post({ text: 'dog', filter })
    expect(reply.json()).toMatchObject({ status: 422, code: 'invalid_request' })
    expect(reply.json<{ detail: string }>().detail).toContain(sentence)
  })
})

describe('POST /search', () => {
  it('answers a text as GET does', async () => {
    const { hits } = (await post({ text: 'dog', k: 3 })).json<Reply>()
    expect(hits).toEqual((await get('q=dog&k=3')).json<Reply>().hits)
  })

  it('finds images similar to one in JSON, in a data-URI or in a form', async () => {
    const image = Buffer.from('horse').toString('base64')
    const form = new FormData()
    form.append('image', new Blob(['horse']), 'horse.jpg')
    form.append('k', '2')
    const replies = [
      await post({ image, k: 2 }),
      await post({ image: `data:image/png;base64,${image}`, k: 2 }),
      await tandem.app.inject({ method: 'POST', url: '/search', payload: form }),
    ]
    for (const reply of replies) {
      expect(idsOf(reply)).toEqual(['horse', 'zebra'])
      expect(reply.json<Reply>().hits[0]?.match).toBeNull()
    }
  })

  it('finds items similar to a stored one, without that item', async () => {
    expect(idsOf(await post({ id: 'horse', k: 2 }))[0]).toBe('zebra')
    expect(idsOf(await post({ id: 'horse', k: 1000 })).sort()).toEqual([
      'cat',
      'dog',
      'puppy',
      'zebra',
    ])
  })

  it.each([
    [{}, 'exactly one of text, image, id; the body has none of them'],
    [{ text: 'dog', id: 'dog' }, 'the body has text and id'],
    [{ text: 7 }, 'text is 7; expected a text'],
    [{ text: 'dog', k: '3' }, 'k is "3"; expected'],
    [{ text: 'dog', size: 3 }, '"size" is not a known field; expected one of: text, image, id, k'],
    [{ image: 'https://example.org/a.jpg' }, 'this service fetches none'],
    [{ image: 'data:image/png,abc' }, 'not base64'],
    [{ image: 'n0t base64!' }, 'image is not valid base64: character 10 is "!"'],
    [{ image: 'ZG9=n' }, 'image is not valid base64: character 3 is "="'],
    [{ text: '\u200b' }, 'at least one visible character'],
    [{ text: '\u2060 \ufe0f' }, 'at least one visible character'],
  ])('refuses %j', async (body, sentence) => {
    const reply = await post(body)
    expect(reply.statusCode).toBe(422)
    expect(reply.json<{ detail: string }>().detail).toContain(sentence)
  })

  it('refuses rerank without a text, and an unknown id', async () => {
    expect((await post({ id: 'dog', rerank: true })).json()).toMatchObject({
      status: 422,
      code: 'options_conflict',
    })
    expect((await post({ id: 'nobody' })).json()).toMatchObject({
      status: 404,
      code: 'item_not_found',
    })
  })

  it('refuses a form with unknown parts, wrong options, or not exactly one image', async () => {
    const details = []
    for (const [name, value] of [
      ['size', '3'],
      ['k', 'x'],
    ] as const) {
      const form = new FormData()
      form.append('image', new Blob(['dog']), 'dog.jpg')
      form.append(name, value)
      details.push(
        (await tandem.app.inject({ method: 'POST', url: '/search', payload: form })).json<{
          detail: string
        }>().detail,
      )
    }
    const two = new FormData()
    for (const name of ['a', 'b']) two.append('image', new Blob(['dog']), name)
    details.push(
      (await tandem.app.inject({ method: 'POST', url: '/search', payload: two })).json<{
        detail: string
      }>().detail,
    )
    expect(details[0]).toContain('"size" is not a known field')
    expect(details[1]).toContain('k is "x"; expected a whole number')
    expect(details[2]).toContain('2 files; expected exactly one')
  })
})

describe('a text in a language that the bundle does not speak', () => {
  const french = 'deux filles jouent dans la cour'
  const search = async (options: object) => {
    const reply = await tandem.app.inject({ method: 'POST', url: '/search', payload: options })
    return reply.json<{
      hits: { match: number | null; score: number; similarity: number }[]
      notices: { code: string; language: string | null; detail: string }[]
      timings: Record<string, number>
    }>()
  }

  it('is answered by similarity, with match null and a notice', async () => {
    for (const options of [{}, { rerank: true }, { rerank: false }]) {
      const { hits, notices, timings } = await search({ text: french, k: 2, ...options })
      expect(hits).toHaveLength(2)
      for (const { match, score, similarity } of hits) {
        expect(match).toBeNull()
        expect(score).toBe(similarity)
      }
      expect(timings).not.toHaveProperty('rerank')
      expect(notices).toMatchObject([{ code: 'language_not_spoken', language: 'fr' }])
      expect(notices[0]?.detail).toContain('French (fr)')
    }
    const query = new URLSearchParams({ q: french }).toString()
    const reply = await tandem.app.inject(`/search?${query}`)
    expect(reply.json()).toMatchObject({ notices: [{ language: 'fr' }] })
  })

  it('reaches no lowest match', async () => {
    const { hits, notices } = await search({ text: french, min_match: 0.01 })
    expect(hits).toEqual([])
    expect(notices).toHaveLength(1)
  })

  it('is matched if the client names a language that the bundle speaks', async () => {
    const { hits, notices } = await search({ text: french, language: 'en' })
    expect(notices).toEqual([])
    for (const { match } of hits) expect(match).not.toBeNull()
  })

  it('may be named by the client', async () => {
    const { hits, notices } = await search({ text: 'dog', language: 'fr' })
    expect(notices).toMatchObject([{ code: 'language_not_spoken', language: 'fr' }])
    for (const { match } of hits) expect(match).toBeNull()
  })

  it('is not looked for in an image or an id, which have no language', async () => {
    for (const query of [{ id: 'dog' }, { image: Buffer.from('dog').toString('base64') }]) {
      expect((await search(query)).notices).toEqual([])
      expect(await search({ ...query, language: 'en' })).toMatchObject({
        status: 422,
        code: 'options_conflict',
      })
    }
  })

  it.each(['english', 'EN', 'e', 'en_US', 'en-', '', 'en-us'])(
    'is refused with the language %j',
    async (language) => {
      expect(await search({ text: 'dog', language })).toMatchObject({
        status: 422,
        code: 'invalid_request',
        detail: expect.stringMatching(/^language is .*; expected a language such as en/) as string,
      })
    },
  )
})
