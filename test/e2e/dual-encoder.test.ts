/** A bundle without a fusion encoder: no image tokens, and a match computed from similarity. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { buildApp, type Tandem } from '../../src/http/app.js'
import { packageFolder, readConfig } from '../../src/config.js'

vi.setConfig({ testTimeout: 180_000 })

interface Hit {
  id: string
  score: number
  similarity: number
  match: number | null
}

let tandem: Tandem
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-dual-'))
  const modelFolder = join(packageFolder, 'test/fixtures/tiny-dual-bundle')
  tandem = await buildApp({
    ...readConfig({}),
    logLevel: 'silent',
    dataFolder: folder,
    modelFolder,
    inferenceThreads: 1,
  })
  await tandem.start()
  for (const [id, background] of Object.entries({
    red: '#c03020',
    green: '#20a040',
    blue: '#3050c0',
  })) {
    const payload = await sharp({ create: { width: 40, height: 30, channels: 3, background } })
      .png()
      .toBuffer()
    const reply = await tandem.app.inject({
      method: 'PUT',
      url: `/items/${id}`,
      payload,
      headers: { 'content-type': 'image/png' },
    })
    expect(reply.statusCode).toBe(201)
  }
})

afterAll(async () => {
  await tandem.close()
  await rm(folder, { recursive: true, force: true })
})

const search = async (query: string): Promise<Hit[]> =>
  (await tandem.app.inject(`/search?q=dark%20blue%20sea${query}`)).json<{ hits: Hit[] }>().hits

it('a search is ordered by similarity by default', async () => {
  const hits = await search('')
  expect(hits).toHaveLength(3)
  for (const { score, similarity, match } of hits) {
    expect(match).toBeNull()
    expect(score).toBe(similarity)
  }
})

it('rerank gives the same order with the calibrated match of each similarity', async () => {
  const [plain, reranked] = [await search(''), await search('&rerank=true')]
  expect(reranked.map(({ id }) => id)).toEqual(plain.map(({ id }) => id))
  for (const { similarity, match } of reranked) {
    // 2 · similarity - 0.5, on a line through (-2, 0.1), (0, 0.3) and (2, 0.9).
    const argument = 2 * similarity - 0.5
    expect(match).toBeCloseTo(0.3 + (argument > 0 ? 0.3 : 0.1) * argument, 5)
  }
  const limit = reranked[1]?.match ?? 1
  expect(await search(`&rerank=true&min_match=${limit}`)).toHaveLength(2)
})
