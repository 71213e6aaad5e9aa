/** Add, search, rerank and remove over HTTP with the tiny and, if present, the shipped bundle. */
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { buildApp, type Tandem } from '../../src/http/app.js'
import { packageFolder, readConfig } from '../../src/config.js'

vi.setConfig({ testTimeout: 180_000 })

interface Hit {
  id: string
  score: number
  similarity: number
  match: number | null
  payload: unknown
}

// An embedding differs by rounding when it is computed alone or in a batch.
const CLOSE = 3
const bundles = {
  tiny: join(packageFolder, 'test/fixtures/tiny-bundle'),
  shipped: join(packageFolder, 'models/tandem-small'),
}
const sentences = ['two dogs on a beach', 'a red car', 'snow']

describe.each(Object.entries(bundles))('the main job with the %s bundle', (_name, modelFolder) => {
  // A checkout of the code alone lacks the shipped bundle.
  const there = existsSync(join(modelFolder, 'manifest.json'))
  let tandem: Tandem
  let folder: string
  const images = new Map<string, Buffer>()

  beforeAll(async () => {
    if (!there) return
    folder = await mkdtemp(join(tmpdir(), 'tandem-'))
    tandem = await buildApp({
      ...readConfig({}),
      logLevel: 'silent',
      dataFolder: folder,
      modelFolder,
      inferenceThreads: 1,
    })
    await tandem.start()
    for (const [at, background] of [
      '#c03020',
      '#20a040',
      '#3050c0',
      '#e0e0e0',
      '#202020',
      '#c0b020',
    ].entries()) {
      const noise = { type: 'gaussian', mean: 128, sigma: 10 + 15 * at } as const
      const image = sharp({ create: { width: 300, height: 200, channels: 3, background, noise } })
      images.set(`photos/${at}.png`, await image.tint(background).png().toBuffer())
    }
  })

  afterAll(async () => {
    if (!there) return
    await tandem.close()
    await rm(folder, { recursive: true, force: true })
  })

  const search = async (query: string): Promise<Hit[]> =>
    (await tandem.app.inject(`/search?${query}`)).json<{ hits: Hit[] }>().hits
  const post = async <Reply>(url: string, payload: object): Promise<Reply> =>
    (await tandem.app.inject({ method: 'POST', url, payload })).json<Reply>()
  const text = (sentence: string): string => `q=${encodeURIComponent(sentence)}`

  it.skipIf(!there)('adds photos', async () => {
    for (const [id, body] of images) {
      const url = `/items/${encodeURIComponent(id)}?payload=${encodeURIComponent(JSON.stringify({ id }))}`
      const reply = await tandem.app.inject({
        method: 'PUT',
        url,
        payload: body,
        headers: { 'content-type': 'image/png' },
      })
      expect(reply.statusCode).toBe(201)
    }
    expect(tandem.retrieval.stats().items).toBe(images.size)
  })

  it.skipIf(!there)('finds every photo by itself, first and with similarity 1', async () => {
    for (const [id, body] of images) {
      const { hits } = await post<{ hits: Hit[] }>('/search', {
        image: body.toString('base64'),
        k: 1,
      })
      expect(hits[0]?.id).toBe(id)
      expect(hits[0]?.similarity).toBeCloseTo(1, CLOSE)
    }
  })

  it.skipIf(!there)('orders by similarity as the embeddings say', async () => {
    const inputs = [
      ...sentences.map((sentence) => ({ text: sentence })),
      ...[...images.values()].map((body) => ({ image: body.toString('base64') })),
    ]
    const { embeddings } = await post<{ embeddings: { embedding: number[] }[] }>('/embed', {
      inputs,
    })
    const vectors = embeddings.map(({ embedding }) => embedding)
    for (const vector of vectors) expect(Math.hypot(...vector)).toBeCloseTo(1, CLOSE)
    for (const [at, sentence] of sentences.entries()) {
      const hits = await search(`${text(sentence)}&rerank=false`)
      expect(hits).toHaveLength(images.size)
      for (const { id, similarity } of hits) {
        const image = vectors[sentences.length + [...images.keys()].indexOf(id)]
        expect(similarity).toBeCloseTo(
          vectors[at]?.reduce((sum, value, place) => sum + value * (image?.[place] ?? 0), 0) ??
            Number.NaN,
          CLOSE,
        )
      }
      expect(hits.map(({ score }) => score)).toEqual(
        hits.map(({ similarity }) => similarity).toSorted((a, b) => b - a),
      )
    }
  })

  it.skipIf(!there)('reranks as /rerank does, from stored tokens and from fresh ones', async () => {
    for (const sentence of sentences) {
      const hits = await search(`${text(sentence)}&rerank=true`)
      const byId = hits.map(({ id }) => ({ id }))
      const fresh = hits.map(({ id }) => ({ image: images.get(id)?.toString('base64') }))
      expect(hits.map(({ match }) => match)).toEqual(
        hits.map(({ match }) => match).toSorted((a, b) => Number(b) - Number(a)),
      )
      for (const documents of [byId, fresh]) {
        const { results } = await post<{ results: { index: number; match: number }[] }>('/rerank', {
          query: sentence,
          documents,
        })
        for (const { index, match } of results)
          expect(match).toBeCloseTo(hits[index]?.match ?? Number.NaN, 2)
      }
    }
  })

  it.skipIf(!there)('answers alike whether asked alone or among others', async () => {
    const queries = Array.from({ length: 8 }, (_, at) =>
      text(sentences[at % sentences.length] ?? ''),
    )
    const alone = await search(queries[0] ?? '')
    const together = await Promise.all(queries.map(search))
    for (const hits of together.filter((_hits, at) => at % sentences.length === 0)) {
      for (const { id, match } of hits)
        expect(match).toBeCloseTo(alone.find((hit) => hit.id === id)?.match ?? Number.NaN, 2)
    }
  })

  it.skipIf(!there)('forgets what is deleted', async () => {
    const [id = ''] = images.keys()
    expect(
      (await tandem.app.inject({ method: 'DELETE', url: `/items/${encodeURIComponent(id)}` }))
        .statusCode,
    ).toBe(204)
    for (const sentence of sentences)
      expect((await search(text(sentence))).map((hit) => hit.id)).not.toContain(id)
  })
})
