import { afterAll, beforeAll, expect, it } from 'vitest'
import { startTestService, type TestService } from '../../support/test-service.js'

let tandem: TestService

beforeAll(async () => {
  tandem = await startTestService()
  for (const id of ['dog 3', 'dog 1', 'cat 2'])
    await tandem.retrieval.add({ id, image: Buffer.from(id), payload: { caption: `a ${id}` } })
})
afterAll(() => tandem.end())

/** Without a Content-Type, as ClipClient sends it. */
const search = (body: object) =>
  tandem.app.inject({
    ...{ method: 'POST', url: '/knn-service', payload: Buffer.from(JSON.stringify(body)) },
    headers: { host: 'localhost:3000' },
  })
const nulls = { text: null, image: null, image_url: null, embedding_input: null }
const image = Buffer.from('dog').toString('base64')

it.each([{ text: 'dog' }, { image }])('finds what /search finds for %j', async (query) => {
  const own = { method: 'POST', url: '/search', payload: { ...query, k: 2 } } as const
  const { hits } = (await tandem.app.inject(own)).json<{
    hits: { id: string; similarity: number }[]
  }>()
  const options = { modality: 'image', num_images: 2, indice_name: 'tandem', deduplicate: true }
  expect((await search({ ...nulls, ...query, ...options })).json()).toEqual(
    hits.map(({ id, similarity }) => ({
      ...{ id, similarity, caption: `a ${id}` },
      url: `http://localhost:3000/items/${encodeURIComponent(id)}/image`,
    })),
  )
})

it.each<[object, string]>([
  [nulls, 'exactly one of text, image and image_url; the body has none of them'],
  [{ text: 'a', image }, 'the body has text and image'],
  [{ text: '' }, 'text is ""'],
  [{ embedding_input: [0.5] }, 'embedding_input is not supported'],
  [{ text: 'a', modality: 'text' }, 'modality is "text"; expected "image"'],
  [{ text: 'a', num_images: 0 }, 'num_images is 0; expected'],
])('refuses %j', async (body, sentence) => {
  const reply = await search(body)
  expect(reply.statusCode).toBe(422)
  expect(reply.json<{ detail: string }>().detail).toContain(sentence)
})
