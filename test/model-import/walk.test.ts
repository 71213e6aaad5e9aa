/** What a user does with an imported bundle, from a service that has photos to its daily work. */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import sharp from 'sharp'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { benchModel } from '../../src/cli/bench-model.js'
import { packageFolder, readConfig } from '../../src/config.js'
import { buildApp } from '../../src/http/app.js'
import { openModels } from '../../src/model/open.js'
import { importModel } from '../../src/model-import/import.js'
import { makeImmichFolder } from '../support/immich-folder.js'
import { cosine } from '../support/random-embeddings.js'
import { smallDisk } from '../support/small-disk.js'

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

const QUESTIONS = ['a photo of the blue sea', 'red', 'dark green dog']
const ITEMS = 16
const disk = await smallDisk(1)

let folder = ''
let source = ''
let bundles = ''

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tandem-walk-'))
  source = makeImmichFolder(join(folder, 'source'))
  bundles = join(folder, 'bundles')
  const tiny = join(packageFolder, 'test', 'fixtures', 'tiny-bundle')
  cpSync(tiny, join(bundles, 'tiny'), { recursive: true })
  await importModel(source, { into: bundles, name: 'imported' })
})
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true })
  await disk?.end()
})

const photo = (hue: number): Promise<Buffer> =>
  sharp({
    create: { width: 40, height: 30, channels: 3, background: `hsl(${hue}, 70%, 45%)` },
  })
    .png()
    .toBuffer()

it('A service changes to an imported bundle while it answers, without a failed search', async () => {
  const tandem = await buildApp({
    ...readConfig({}),
    logLevel: 'silent',
    dataFolder: join(folder, 'data'),
    modelFolder: join(bundles, 'tiny'),
    inferenceThreads: 1,
  })
  const models = await openModels({
    folder: join(bundles, 'imported'),
    inferenceThreads: 1,
    maxImagePixels: 1e6,
  })
  try {
    await tandem.start()
    const { app } = tandem
    for (let at = 0; at < ITEMS; at += 1) {
      const headers = { 'content-type': 'image/png' }
      const url = `/items/item-${at}`
      const payload = await photo(at * 20)
      expect((await app.inject({ method: 'PUT', url, headers, payload })).statusCode).toBe(201)
    }
    const search = async (text: string): Promise<Map<string, number>> => {
      const url = `/search?q=${encodeURIComponent(text)}&k=${ITEMS}&rerank=false&language=en`
      const reply = await app.inject(url)
      expect(reply.statusCode, reply.body).toBe(200)
      const { hits } = reply.json<{ hits: { id: string; similarity: number }[] }>()
      return new Map(hits.map(({ id, similarity }) => [id, similarity]))
    }
    let isOver = false
    let answered = 0
    const searching = (async () => {
      for (; !isOver; answered += 1)
        expect((await search(QUESTIONS[answered % 3] ?? '')).size).toBe(ITEMS)
    })()
    const asked = await app.inject({
      method: 'PUT',
      url: '/reembedding',
      payload: { model: 'imported' },
    })
    expect(asked.statusCode, asked.body).toBe(202)
    const state = async (): Promise<string | undefined> =>
      (await app.inject('/reembedding')).json<{ reembedding?: { state: string } }>().reembedding
        ?.state
    await expect.poll(state, { timeout: 60_000 }).toBe('ready')
    const promoted = await app.inject({ method: 'POST', url: '/reembedding/promote' })
    expect(promoted.statusCode, promoted.body).toBe(200)
    isOver = true
    await searching
    expect(answered).toBeGreaterThan(0)
    const served = (await app.inject('/models')).body
    expect(served).toContain('imported')
    expect(served).toContain('"calibrated":false')
    const images = await Promise.all(
      Array.from({ length: ITEMS }, (_, at) => tandem.retrieval.image(`item-${at}`)),
    )
    const { encoded } = await models.encodeImages(images)
    for (const text of QUESTIONS) {
      const [query] = (await models.encodeTexts([text])).encoded
      const hits = await search(text)
      encoded.forEach(({ embedding }, at) => {
        const similarity = cosine(query?.embedding ?? [], embedding)
        expect(hits.get(`item-${at}`)).toBeCloseTo(similarity, 4)
      })
    }
  } finally {
    await models.close()
    await tandem.close()
  }
})

it('bench-model measures an imported bundle against another one', async () => {
  const quiet = { out: new PassThrough(), err: new PassThrough() }
  const options = { against: join(bundles, 'tiny'), images: 1, rounds: 1 }
  const report = await benchModel(join(bundles, 'imported'), options, readConfig({}), quiet)
  expect(report.bundles.map(({ name }) => name)).toEqual(['imported', 'tiny'])
  const graphs = report.speeds.map(({ graph }) => graph)
  expect(new Set(graphs)).toEqual(new Set(['image', 'text', 'fusion']))
})

it.skipIf(disk === null)('A full disk is named, and nothing of a bundle is left', async () => {
  if (disk === null) return
  const into = join(disk.folder, 'bundles')
  mkdirSync(into)
  for (const free of [16_384, 8192, 4096, 0]) {
    disk.fill(free)
    await expect(importModel(source, { into, name: 'imported' }), `${free} free`).rejects.toThrow(
      /^The disk that holds the bundles in .*\/bundles is full; nothing was stored\.$/,
    )
    expect(readdirSync(into)).toEqual([])
    disk.freeSpace()
  }
})
