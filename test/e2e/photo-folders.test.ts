/** Two folders of photos of many kinds, from their files to the page and back. */
import { copyFile, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import sharp from 'sharp'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { Client } from '../../src/cli/client.js'
import { indexImages } from '../../src/cli/index-folder.js'
import type { IndexOutcome } from '../../src/cli/indexing/indexer.js'
import { MetadataReader } from '../../src/cli/indexing/metadata-reader.js'
import { packageFolder, readConfig } from '../../src/config.js'
import { buildApp, type Tandem } from '../../src/http/app.js'
import { randomNumbers } from '../support/random-embeddings.js'

vi.setConfig({ testTimeout: 180_000 })

const COUNT = 50
const SIDE = 24
const PERSIAN = 'سگ در برف\u200cها 👨\u200d👩.jpg'
/** Colour of the upper left quarter of the special files: of a viewer. */
const RED = [200, 30, 40]
/** Of a channel, after the JPEG that is stored. */
const TOLERANCE = 8

let tandem: Tandem
let folder: string
let address: string
let client: Client
let metadata: MetadataReader
/** The bytes of each file, by its path in `folder`. */
const files = new Map<string, Buffer>()

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-'))
  tandem = await buildApp({
    ...readConfig({}),
    logLevel: 'silent',
    dataFolder: join(folder, 'data'),
    modelFolder: join(packageFolder, 'test/fixtures/tiny-bundle'),
    vectorIndex: 'exact',
    inferenceThreads: 1,
  })
  address = await tandem.app.listen({ host: '127.0.0.1', port: 0 })
  await tandem.start()
  client = new Client(address)
  metadata = await MetadataReader.open()

  const next = randomNumbers(17)
  for (const name of ['phone', 'camera']) {
    await mkdir(join(folder, name))
    for (let i = 0; i < COUNT; i += 1)
      files.set(`${name}/IMG_${1000 + i}.jpg`, await blocks(next).jpeg().toBuffer())
  }
  const special: [string, string, () => Promise<Buffer>][] = [
    ['phone/IMG_1000.jpg', 'phone/IMG_1000.heic', () => fixture('quarters.heic')],
    ['phone/IMG_1001.jpg', 'phone/IMG_1001.avif', () => fixture('animated.avif')],
    ['camera/IMG_1000.jpg', 'camera/IMG_1000.png', () => deep().png().toBuffer()],
    ['camera/IMG_1001.jpg', `camera/${PERSIAN}`, () => deep().jpeg({ quality: 95 }).toBuffer()],
  ]
  for (const [former, path, make] of special) {
    files.delete(former)
    files.set(path, await make())
  }
  for (const [path, bytes] of files) await writeFile(join(folder, path), bytes)
})

afterAll(async () => {
  await metadata.close()
  await tandem.close()
  await rm(folder, { recursive: true, force: true })
})

/** Four by four blocks of random colours, so that all images differ. */
function blocks(next: () => number): ReturnType<typeof sharp> {
  const raw = Buffer.from(Array.from({ length: 48 }, () => Math.floor(next() * 256)))
  return sharp(raw, { raw: { width: 4, height: 4, channels: 3 } }).resize(SIDE, SIDE, {
    kernel: 'nearest',
  })
}

/** One colour, 16 bits a sample, in Display P3. */
function deep(): ReturnType<typeof sharp> {
  const [r = 0, g = 0, b = 0] = RED
  return sharp({ create: { width: SIDE, height: SIDE, channels: 3, background: { r, g, b } } })
    .toColourspace('rgb16')
    .withIccProfile('p3')
}

const fixture = (name: string): Promise<Buffer> =>
  readFile(join(packageFolder, 'test/fixtures/heif', name))

function index(prune = false): Promise<IndexOutcome> {
  const paths = ['phone', 'camera'].map((name) => join(folder, name))
  const terminal = { out: new PassThrough().resume(), err: new PassThrough().resume() }
  return indexImages(client, metadata, paths, terminal, { maxBytes: 1e6, prune })
}

interface Hit {
  id: string
  similarity: number
  payload: { root: string; path: string }
}

async function firstHit(bytes: Buffer): Promise<Hit> {
  const body = JSON.stringify({ image: bytes.toString('base64'), k: 1 })
  const headers = { 'content-type': 'application/json' }
  const reply = await fetch(`${address}/search`, { method: 'POST', body, headers })
  return ((await reply.json()) as { hits: [Hit] }).hits[0]
}

async function expectFound(path: string): Promise<Hit> {
  const hit = await firstHit(files.get(path) as Buffer)
  const name = hit.payload.root.split('/').at(-1)
  expect(`${name}/${hit.payload.path}`).toBe(path)
  expect(hit.similarity).toBeGreaterThan(0.999)
  return hit
}

async function expectShownRed({ id }: Hit): Promise<void> {
  const reply = await fetch(`${address}/items/${encodeURIComponent(id)}/image`)
  expect(reply.headers.get('content-type')).toBe('image/jpeg')
  const image = sharp(Buffer.from(await reply.arrayBuffer()))
  const { width, height } = await image.metadata()
  const corner = { left: 2, top: 2, width: Math.ceil(width / 4), height: Math.ceil(height / 4) }
  // `stats` looks at the input of a pipeline.
  const { channels } = await sharp(await image.extract(corner).png().toBuffer()).stats()
  const distances = channels.map(({ mean }, i) => Math.abs(mean - (RED[i] ?? 0)))
  expect(Math.max(...distances), channels.map(({ mean }) => mean).join()).toBeLessThan(TOLERANCE)
}

it('photos of two folders with equal names are indexed, found, shown, renamed and pruned', async () => {
  expect(await index()).toMatchObject({ added: 2 * COUNT, replaced: 0, failed: [] })
  for (const path of files.keys()) await expectFound(path)
  for (const name of ['phone/IMG_1000.heic', 'phone/IMG_1001.avif', 'camera/IMG_1000.png'])
    await expectShownRed(await expectFound(name))
  const persian = await expectFound(`camera/${PERSIAN}`)
  await expectShownRed(persian)

  await rename(join(folder, 'camera', PERSIAN), join(folder, 'camera/dog.jpg'))
  await copyFile(join(folder, 'phone/IMG_1002.jpg'), join(folder, 'phone/copy.jpg'))
  for (const name of ['phone/IMG_1003.jpg', 'camera/IMG_1004.jpg']) await rm(join(folder, name))
  const outcome = await index(true)
  expect(outcome).toMatchObject({ added: 1, renamed: 1, removed: 3, skipped: 2 * COUNT - 3 })

  files.set('camera/dog.jpg', files.get(`camera/${PERSIAN}`) as Buffer)
  await expectShownRed(await expectFound('camera/dog.jpg'))
  await expectFound('phone/IMG_1004.jpg')
  await expectFound('camera/IMG_1003.jpg')
  expect((await firstHit(files.get('phone/IMG_1003.jpg') as Buffer)).similarity).toBeLessThan(0.999)
  expect(await client.item(persian.id)).toBeUndefined()
})
