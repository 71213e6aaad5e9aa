/**
 * The change of bundle over HTTP between the tiny bundle and a copy with the signs of some weights
 * inverted. Expected similarities are computed with the models.
 */
import { createHash } from 'node:crypto'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { Command } from 'commander'
import sharp from 'sharp'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { buildApp, type Tandem } from '../../src/http/app.js'
import { addReembedCommands } from '../../src/cli/reembed.js'
import { packageFolder, readConfig } from '../../src/config.js'
import { openModels } from '../../src/model/open.js'
import type { Models } from '../../src/model/models.js'

const QUESTIONS = ['a photo of the blue sea', 'red', 'dark green dog']
const TOLERANCE = 1e-4

let bundles: string
let models: Record<string, Models>
let dataFolder: string
let tandem: Tandem | undefined

/** Inverts the sign of every `step`th weight of the last matrix. */
function turned(graph: Buffer, step: number): Buffer {
  const changed = Buffer.from(graph)
  const name = changed.lastIndexOf('to_embedding\x4a')
  let at = name + 'to_embedding\x4a'.length
  let [length, shift] = [0, 0]
  for (let more = true; more; at += 1, shift += 7) {
    length |= ((changed[at] ?? 0) & 0x7f) << shift
    more = (changed[at] ?? 0) > 0x7f
  }
  for (let byte = at + 3; byte < at + length; byte += 4 * step)
    changed[byte] = (changed[byte] ?? 0) ^ 0x80
  return changed
}

beforeAll(async () => {
  bundles = await mkdtemp(join(tmpdir(), 'tandem-bundles-'))
  for (const name of ['first', 'second', 'broken']) {
    await cp(join(packageFolder, 'test', 'fixtures', 'tiny-bundle'), join(bundles, name), {
      recursive: true,
    })
  }
  const manifestFile = join(bundles, 'second', 'manifest.json')
  const manifest = JSON.parse(await readFile(manifestFile, 'utf8')) as {
    files: { path: string; bytes: number; sha256: string }[]
  }
  const change = async (path: string, changed: (bytes: Buffer) => Buffer): Promise<void> => {
    const bytes = changed(await readFile(join(bundles, 'second', path)))
    await writeFile(join(bundles, 'second', path), bytes)
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    Object.assign(manifest.files.find((file) => file.path === path) ?? {}, {
      bytes: bytes.length,
      sha256,
    })
  }
  await change('image-encoder.onnx', (graph) => turned(graph, 2))
  await change('text-encoder.onnx', (graph) => turned(graph, 3))
  // The goldens belong to the first bundle, so the second accepts any output.
  const tolerances = { embedding_cosine: -1, logit: 1000, image_token: 255 }
  await change('goldens.json', (goldens) =>
    Buffer.from(JSON.stringify({ ...(JSON.parse(String(goldens)) as object), tolerances })),
  )
  await writeFile(manifestFile, JSON.stringify(manifest))
  await writeFile(join(bundles, 'broken', 'tokenizer.json'), '{}')
  const open = (name: string): Promise<Models> =>
    openModels({ folder: join(bundles, name), inferenceThreads: 1, maxImagePixels: 1e6 })
  models = { first: await open('first'), second: await open('second') }
})
afterAll(async () => {
  for (const one of Object.values(models)) await one.close()
  await rm(bundles, { recursive: true })
})
beforeEach(async () => {
  dataFolder = await mkdtemp(join(tmpdir(), 'tandem-'))
  await start()
})
afterEach(async () => {
  await tandem?.close()
  await rm(dataFolder, { recursive: true, force: true })
})

async function start(): Promise<void> {
  const config = { ...readConfig({}), logLevel: 'silent' as const, inferenceThreads: 1, dataFolder }
  tandem = await buildApp({ ...config, modelFolder: join(bundles, 'first') })
  await tandem.start()
}

async function restart(): Promise<void> {
  await tandem?.close()
  await start()
}

type Method = 'GET' | 'PUT' | 'POST' | 'DELETE'

async function ask(method: Method, url: string, payload?: object | Buffer) {
  const headers = Buffer.isBuffer(payload) ? { 'content-type': 'image/png' } : {}
  const answer = await (tandem as Tandem).app.inject({
    method,
    url,
    headers,
    ...(payload === undefined ? {} : { payload }),
  })
  return {
    status: answer.statusCode,
    body: (answer.body === '' ? null : answer.json()) as Record<string, never>,
  }
}

const imageOf = (hue: number): Promise<Buffer> =>
  sharp({
    create: {
      width: 24,
      height: 18,
      channels: 3,
      background: `hsl(${hue % 360}, 70%, ${30 + (hue % 7) * 6}%)`,
    },
  })
    .png()
    .toBuffer()

const add = async (id: string, hue: number): Promise<number> =>
  (await ask('PUT', `/items/${id}`, await imageOf(hue))).status

interface Status {
  serving: { model: string }
  reembedding: { model: string; state: string; lag: number } | null
}
const status = async (): Promise<Status> =>
  (await ask('GET', '/reembedding')).body as unknown as Status
const becomesReady = () =>
  expect.poll(async () => (await status()).reembedding?.state, { timeout: 60_000 }).toBe('ready')

/** Similarity of each item to a text, by id, from the service. */
async function found(question: string): Promise<Record<string, number>> {
  const { status: code, body } = await ask(
    'GET',
    `/search?q=${encodeURIComponent(question)}&k=1000&candidates=1000&rerank=false`,
  )
  expect(code).toBe(200)
  const { hits } = body as unknown as { hits: { id: string; similarity: number }[] }
  return Object.fromEntries(hits.map(({ id, similarity }) => [id, similarity]))
}

/** The same, computed with the bundle from the stored images. */
async function exact(
  name: string,
  question: string,
  ids: readonly string[],
): Promise<Record<string, number>> {
  const [text] = (await (models[name] as Models).encodeTexts([question])).encoded
  const images = await Promise.all(ids.map((id) => (tandem as Tandem).retrieval.image(id)))
  const { encoded } = await (models[name] as Models).encodeImages(images)
  return Object.fromEntries(
    ids.map((id, at) => [id, cosine(text?.embedding, encoded[at]?.embedding)]),
  )
}

function cosine(a: Float32Array | undefined, b: Float32Array | undefined): number {
  return a?.reduce((sum, value, at) => sum + value * (b?.[at] ?? 0), 0) ?? Number.NaN
}

/** Whether the hits contain all `expected` items with their similarities. */
function isNear(hits: Record<string, number>, expected: Record<string, number>): boolean {
  return Object.entries(expected).every(
    ([id, similarity]) => Math.abs((hits[id] ?? 9) - similarity) < TOLERANCE,
  )
}

/** Expects each search to answer as exact search with the bundle does. */
async function expectExact(name: string): Promise<void> {
  const ids = (await (tandem as Tandem).retrieval.list({ limit: 1000 })).items.map(({ id }) => id)
  for (const question of QUESTIONS) {
    const hits = await found(question)
    expect(Object.keys(hits).sort()).toEqual(ids)
    // The serving bundle may have encoded the original, of which the stored image is a JPEG.
    for (const [id, similarity] of Object.entries(await exact(name, question, ids)))
      expect(hits[id], id).toBeCloseTo(similarity, 1)
  }
}

describe('a change of bundle', { timeout: 180_000 }, () => {
  it('the service stays ready when a process of the prepared bundle dies, and counts it', async () => {
    expect((await ask('PUT', '/reembedding', { model: 'second' })).status).toBe(202)
    await becomesReady()
    const reembedder = (tandem as Tandem).retrieval.maintenance?.reembedder
    process.kill(
      reembedder?.workers.find(({ name }) => name === 'inference')?.pid as number,
      'SIGKILL',
    )
    const metrics = async (): Promise<string> =>
      (await (tandem as Tandem).app.inject('/metrics')).body
    await expect
      .poll(metrics, { timeout: 30_000 })
      .toMatch(/^tandem_worker_restarts_total\{worker="reembedding-inference"\} 1$/m)
    expect(await metrics()).toMatch(/^tandem_worker_restarts_total\{worker="inference"\} 0$/m)
    expect((await ask('GET', '/health/ready')).status).toBe(200)
  })

  it('under writes, each search is answered exactly by one of the bundles', async () => {
    const still = Array.from({ length: 40 }, (_, at) => `still-${at}`)
    for (const [at, id] of still.entries()) expect(await add(id, at * 9)).toBe(201)
    // The first bundle encoded the original images, the second encodes the stored ones.
    const first = Object.fromEntries(
      await Promise.all(QUESTIONS.map(async (q) => [q, await found(q)] as const)),
    )
    const second = Object.fromEntries(
      await Promise.all(QUESTIONS.map(async (q) => [q, await exact('second', q, still)] as const)),
    )
    const apart = (q: string): number =>
      Math.max(...still.map((id) => Math.abs((first[q]?.[id] ?? 0) - (second[q]?.[id] ?? 0))))
    for (const question of QUESTIONS) expect(apart(question)).toBeGreaterThan(0.1)

    let over = false
    const answered = { first: 0, second: 0, neither: 0 }
    const search = async (): Promise<void> => {
      for (let at = 0; !over; at += 1) {
        const question = QUESTIONS[at % QUESTIONS.length] as string
        const hits = await found(question)
        if (isNear(hits, first[question] ?? {})) answered.first += 1
        else if (isNear(hits, second[question] ?? {})) answered.second += 1
        else answered.neither += 1
      }
    }
    const write = async (id: string): Promise<void> => {
      for (let at = 0; !over; at += 1) {
        expect([200, 201]).toContain(await add(id, at * 31))
        if (at % 3 === 2) expect((await ask('DELETE', `/items/${id}`)).status).toBe(204)
      }
    }
    const busy = [search(), search(), write('a'), write('b')]
    expect((await ask('PUT', '/reembedding', { model: 'second' })).status).toBe(202)
    await expect
      .poll(async () => (await status()).reembedding?.lag ?? 99, { timeout: 60_000 })
      .toBeLessThan(5)
    expect((await ask('POST', '/reembedding/promote')).status).toBe(200)
    expect((await status()).serving.model).toBe('second')
    const atPromotion = answered.second
    await expect.poll(() => answered.second, { timeout: 30_000 }).toBeGreaterThan(atPromotion + 5)
    over = true
    await Promise.all(busy)
    expect(answered.neither).toBe(0)
    expect(answered.first).toBeGreaterThan(0)
    await becomesReady()
    await expectExact('second')
    expect((await ask('POST', '/reembedding/promote')).status).toBe(200)
    await expectExact('first')
  })

  it('continues after a restart in each state, with the old setting', async () => {
    for (let at = 0; at < 12; at += 1) await add(`item-${at}`, at * 30)
    await ask('PUT', '/reembedding', { model: 'second' })
    await restart()
    expect((await status()).reembedding?.model).toBe('second')
    await add('item-1', 200)
    await ask('DELETE', '/items/item-2')
    await becomesReady()
    await restart()
    await becomesReady()
    await expectExact('first')
    await ask('POST', '/reembedding/promote')
    await restart()
    expect(await status()).toMatchObject({
      serving: { model: 'second' },
      reembedding: { model: 'first' },
    })
    await expectExact('second')
    expect((await ask('DELETE', '/reembedding')).status).toBe(204)
    await restart()
    expect(await status()).toMatchObject({ serving: { model: 'second' }, reembedding: null })
    await expectExact('second')
  })

  it('tandem reembed starts, waits with progress, promotes and ends', async () => {
    for (let at = 0; at < 20; at += 1) await add(`item-${at}`, at * 20)
    const url = await (tandem as Tandem).app.listen({ host: '127.0.0.1', port: 0 })
    const printed: string[] = []
    const run = async (...words: string[]): Promise<string> => {
      const [out, err] = [new PassThrough(), new PassThrough()]
      const program = new Command().exitOverride()
      addReembedCommands(program, { out, err })
      await program.parseAsync(['node', 'tandem', 'reembed', ...words, '--url', url])
      printed.push(String(err.read() ?? ''))
      return String(out.read())
    }
    expect(await run('status')).toMatch(/^serving {4}first .*\npreparing {2}none\n$/)
    expect(await run('start', 'second', '--wait')).toMatch(
      /\npreparing {2}second .* ready, 20 of 20 items\n$/,
    )
    expect(printed.at(-1)).toContain('20')
    expect(await run('promote')).toMatch(/^serving {4}second .*\npreparing {2}first /)
    expect(await run('end')).toMatch(/^serving {4}second .*\npreparing {2}none\n$/)
    await expect(run('start', '../first')).rejects.toThrow(/bare name of a bundle/)
    await expectExact('second')
  })

  it('refuses names that are not of a bundle beside the configured one', async () => {
    for (const model of ['../second', '/etc', '.', '..', 'first/../second', '', 'a'.repeat(200)]) {
      expect([model, (await ask('PUT', '/reembedding', { model })).body['code']]).toEqual([
        model,
        'invalid_request',
      ])
    }
    expect((await ask('PUT', '/reembedding', { model: 'nothing' })).body).toMatchObject({
      code: 'bundle_unusable',
    })
    expect((await ask('PUT', '/reembedding', { model: 'broken' })).body).toMatchObject({
      code: 'bundle_unusable',
    })
    expect((await ask('PUT', '/reembedding', { model: 'first' })).body).toMatchObject({
      code: 'reembedding_conflict',
    })
    expect((await ask('POST', '/reembedding/promote')).body).toMatchObject({
      code: 'reembedding_not_found',
    })
    expect((await ask('DELETE', '/reembedding')).body).toMatchObject({
      code: 'reembedding_not_found',
    })
    expect(await status()).toMatchObject({ serving: { model: 'first' }, reembedding: null })
  })
})
