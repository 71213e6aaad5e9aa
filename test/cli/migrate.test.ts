/**
 * `tandem migrate` as a process, between a data folder that the test writes to and a real Milvus.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { pathToFileURL } from 'node:url'
import { CreateBucketCommand, ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { buildApp } from '../../src/http/app.js'
import { packageFolder, readConfig } from '../../src/config.js'
import type { ItemStore, NewItem } from '../../src/item-store/item-store.js'
import { openItemStore } from '../../src/item-store/open.js'
import { openMilvus } from '../../src/collection/milvus/items.js'
import type { MilvusItems } from '../../src/collection/milvus/milvus.js'
import { openBundle } from '../../src/model/bundle/open.js'
import type { ImageStore } from '../../src/image-store/image-store.js'
import { openImageStore } from '../../src/image-store/open.js'
import { testItem } from '../support/test-item.js'
import { hasMilvus, Milvus, withoutMilvus } from '../support/milvus.js'
import { credentials, S3Server, s3ServerMissing } from '../support/s3-server.js'

vi.setConfig({ testTimeout: 180_000 })

const loader = pathToFileURL(join(packageFolder, 'test', 'support', 'run-source.mjs')).href
const modelFolder = join(packageFolder, 'test', 'fixtures', 'tiny-bundle')
const { fingerprint, manifest } = await openBundle(modelFolder)
const { dim } = manifest.embedding

let milvus: Milvus
let folder: string
let images: ImageStore
let round = 0
/** Open until the end of a test. */
let store: ItemStore | undefined
let items: MilvusItems | undefined
const children = new Set<ChildProcess>()

beforeAll(async () => {
  if (hasMilvus) milvus = await Milvus.start()
})
afterAll(() => milvus?.end())

beforeEach(async () => {
  round += 1
  folder = await mkdtemp(join(tmpdir(), 'tandem-migrate-'))
  images = await openImageStore({
    place: { folder: join(folder, 'images') },
    collection: `default.${collection()}`,
    timeoutMs: 5000,
  })
})
afterEach(async () => {
  for (const child of children) child.kill('SIGKILL')
  await items?.close()
  await store?.close()
  items = store = undefined
  images.close()
  await rm(folder, { recursive: true, force: true })
})

const dataFolder = (name = 'data'): string => join(folder, name)
const collection = (): string => `migrated_${round}`

async function openData(name?: string): Promise<ItemStore> {
  store = await openItemStore({
    folder: join(dataFolder(name), 'items'),
    fingerprint,
    name: 'tiny-bundle',
  })
  return store
}

async function closeData(): Promise<void> {
  await store?.close()
  store = undefined
}

async function inMilvus(): Promise<MilvusItems> {
  const options = { ...milvus.settings, collection: collection(), fingerprint, dim, images }
  items ??= await openMilvus(options)
  return items
}

function begin(
  to: string,
  data = dataFolder(),
  settings: Record<string, string> = {},
): ChildProcess {
  const child = spawn(
    process.execPath,
    ['--import', loader, join(packageFolder, 'src', 'cli.ts'), 'migrate', '--to', to],
    {
      cwd: packageFolder,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: process.env['PATH'],
        TANDEM_DATA_DIR: data,
        TANDEM_MODEL: modelFolder,
        MILVUS_ADDRESS: milvus.address,
        MILVUS_COLLECTION: collection(),
        IMAGE_STORE: join(folder, 'images'),
        ...settings,
      },
    },
  )
  children.add(child)
  return child
}

async function outcomeOf(
  child: ChildProcess,
): Promise<{ status: number | null; out: string; err: string }> {
  const [out, err] = await Promise.all([
    text(child.stdout as NodeJS.ReadableStream),
    text(child.stderr as NodeJS.ReadableStream),
    child.exitCode === null ? once(child, 'exit') : undefined,
  ])
  return { status: child.exitCode, out, err }
}

const migrate = (...given: Parameters<typeof begin>) => outcomeOf(begin(...given))

/** Of length 1, as those that a bundle makes. */
function made(id: string, version = 0): NewItem {
  const item = testItem(id, version)
  const length = Math.hypot(...item.embedding)
  return { ...item, embedding: item.embedding.map((value) => value / length) }
}

const named = (count: number, prefix = 'item'): NewItem[] =>
  Array.from({ length: count }, (_, at) => made(`${prefix}-${at}`))

/** Everything of an item, so that any difference shows. */
const whole = (
  {
    id,
    payload,
    image,
    addedAt,
    embedding,
    imageTokens,
  }: Omit<NewItem, 'image'> & { image: object },
  bytes: Uint8Array | undefined,
) => ({
  id,
  payload,
  image,
  addedAt,
  embedding: [...embedding],
  imageTokens: [...imageTokens],
  bytes: bytes && Buffer.from(bytes).toString('base64'),
})

function everythingIn(data: ItemStore): unknown[] {
  return data.list({ limit: 10_000 }).map((item) => whole(item, data.image(item.id)))
}

async function everythingInMilvus(): Promise<unknown[]> {
  const found = await inMilvus()
  const listed = (await found.list({ limit: 10_000 })).map(({ id }) => id)
  const got = await found.getMany(listed)
  return Promise.all(got.map(async (item) => item && whole(item, await found.image(item.id))))
}

describe.skipIf(!hasMilvus)(`tandem migrate ${withoutMilvus}`, () => {
  it('copies every byte of a data folder, with the writes during the copy', async () => {
    const data = await openData()
    await data.put(named(300))
    const child = begin('milvus')
    let over = false
    const writing = (async () => {
      for (let at = 0; !over; at += 1) {
        await data.put([made(`item-${(at * 37) % 300}`, at + 1), made(`new-${at}`)])
        await data.remove([`item-${(at * 53) % 300}`, `new-${at - 1}`])
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    })()
    const first = await outcomeOf(child)
    over = true
    await writing
    expect(first, first.err).toMatchObject({ status: 0 })
    expect(first.out).toMatch(/ANN recall 1\.0000\ncomplete\n$/)
    const second = await migrate('milvus')
    expect(second, second.err).toMatchObject({ status: 0 })
    expect(second.out).toMatch(new RegExp(`^${data.size} items; `))
    expect(await everythingInMilvus()).toEqual(everythingIn(data))
    const third = await migrate('milvus')
    expect(third.out).toMatch(/; 0 copied, 0 removed\n/)
  })

  it('resumes after a kill', async () => {
    const data = await openData()
    await data.put(named(600))
    const child = begin('milvus')
    const found = await inMilvus()
    await expect.poll(() => found.count(), { timeout: 60_000, interval: 20 }).toBeGreaterThan(60)
    child.kill('SIGKILL')
    const there = await found.count()
    expect(there).toBeLessThan(600)
    const second = await migrate('milvus')
    expect(second, second.err).toMatchObject({ status: 0 })
    const copied = Number(/(\d+) copied/.exec(second.out)?.[1])
    // What was under way when it was killed may have arrived.
    expect(copied).toBeLessThanOrEqual(600 - there)
    expect(copied).toBeGreaterThan(0)
    expect(await everythingInMilvus()).toEqual(everythingIn(data))
  })

  it('copies a Milvus collection into a data folder that a service can open', async () => {
    const found = await inMilvus()
    await Promise.all([...named(90), made('removed')].map((item) => found.put(item)))
    const first = await migrate('embedded')
    expect(first, first.err).toMatchObject({ status: 0 })
    expect(first.out).toMatch(/^91 items; 91 copied, 0 removed\n/)
    await found.remove('removed')
    await found.put(made('item-7', 3))
    await found.put(made('added'))
    const second = await migrate('embedded')
    expect(second.out).toMatch(/^91 items; 2 copied, 1 removed\n/)
    expect(everythingIn(await openData())).toEqual(await everythingInMilvus())
    await closeData()

    const config = {
      ...readConfig({}),
      logLevel: 'silent' as const,
      inferenceThreads: 1,
      dataFolder: dataFolder(),
      modelFolder,
    }
    const { retrieval, close } = await buildApp(config)
    try {
      expect(await retrieval.start()).toEqual({ replayed: 91, removed: 0 })
      const { hits } = await retrieval.search({ id: 'item-7' }, { k: 3 })
      const [item] = await found.getMany(['item-7'])
      const answer = await found.recall(item?.embedding as Float32Array, 4)
      expect(hits.map(({ similarity }) => similarity.toFixed(3))).toEqual(
        answer.slice(1).map(({ similarity }) => similarity.toFixed(3)),
      )
    } finally {
      await close()
    }
  })

  it('refuses a target with other items', async () => {
    await (await openData()).put(named(3))
    await (await inMilvus()).put(made('of-somebody'))
    const { status, err } = await migrate('milvus')
    expect(status).toBe(1)
    expect(err).toMatch(/collection migrated_\d+ has items that no migration/)
    await closeData()
    const back = await migrate('embedded')
    expect(back.err).toMatch(/data folder .* has items that no migration/)
    expect((await everythingInMilvus()).length).toBe(1)
    expect(everythingIn(await openData()).length).toBe(3)
  })

  it('keeps and reports items that others wrote to the target', async () => {
    const data = await openData()
    await data.put(named(5))
    expect(await migrate('milvus')).toMatchObject({ status: 0 })
    const found = await inMilvus()
    await found.put(made('item-2', 9))
    await found.put(made('of-somebody'))
    const { status, out } = await migrate('milvus')
    expect(status).toBe(1)
    expect(out).toMatch(
      /fault: 2 items that others wrote to .* were left unchanged\nnot complete\n$/,
    )
    expect((await found.getMany(['item-2']))[0]?.payload).toMatchObject({ version: 9 })
    expect(await found.count()).toBe(6)
  })

  it('refuses another bundle, a folder in use, and missing settings before it copies anything', async () => {
    await (await openData()).put(named(2))
    const service = await buildApp({
      ...readConfig({}),
      logLevel: 'silent',
      inferenceThreads: 1,
      dataFolder: dataFolder('used'),
      modelFolder,
    })
    const [inUse, otherBundle, noAddress, noImages, noItems] = await Promise.all([
      migrate('embedded', dataFolder('used')),
      migrate('milvus', dataFolder(), { TANDEM_MODEL: 'tandem-small' }),
      migrate('milvus', dataFolder(), { MILVUS_ADDRESS: '' }),
      migrate('milvus', dataFolder(), { IMAGE_STORE: '' }),
      migrate('milvus', dataFolder('none')),
    ]).finally(() => service.close())
    expect(inUse.err).toMatch(/is in use by a Tandem service/)
    expect(otherBundle.err).toMatch(new RegExp(`fingerprint ${fingerprint} \\(tiny-bundle\\)`))
    expect(noAddress.err).toMatch(/MILVUS_ADDRESS/)
    expect(noImages.err).toMatch(/IMAGE_STORE/)
    expect(noItems.err).toMatch(/There are no items in/)
    expect(await (await inMilvus()).count()).toBe(0)
    // A misspelt collection is an empty one: nothing is taken out of what there is.
    expect((await migrate('embedded', dataFolder('other'))).err).toMatch(
      /There are no items in the Milvus collection/,
    )
  })
  it.skipIf(s3ServerMissing !== null)(
    `copies images to a bucket and back ${s3ServerMissing ?? ''}`,
    async () => {
      const server = await S3Server.start()
      const settings = {
        ...credentials,
        IMAGE_STORE: 's3://photos/moved',
        S3_ENDPOINT: server.endpoint,
        S3_REGION: 'us-east-1',
      }
      const keys = {
        accessKeyId: credentials.AWS_ACCESS_KEY_ID,
        secretAccessKey: credentials.AWS_SECRET_ACCESS_KEY,
      }
      const client = new S3Client({
        endpoint: server.endpoint,
        region: 'us-east-1',
        forcePathStyle: true,
        credentials: keys,
      })
      try {
        await client.send(new CreateBucketCommand({ Bucket: 'photos' }))
        const data = await openData()
        await data.put(named(40))
        const there = await migrate('milvus', dataFolder(), settings)
        expect(there, there.err).toMatchObject({
          status: 0,
          out: expect.stringMatching(/; 40 copied, 0 removed\n[^]*\ncomplete\n$/) as string,
        })
        const { KeyCount, Contents = [] } = await client.send(
          new ListObjectsV2Command({ Bucket: 'photos', Prefix: 'moved/' }),
        )
        expect([KeyCount, new Set(Contents.map(({ Key }) => Key)).size]).toEqual([40, 40])
        const back = await migrate('embedded', dataFolder('back'), settings)
        expect(back, back.err).toMatchObject({ status: 0 })
        const before = everythingIn(data)
        await closeData()
        expect(everythingIn(await openData('back'))).toEqual(before)
        for (const { out, err } of [there, back])
          expect(out + err).not.toContain(credentials.AWS_SECRET_ACCESS_KEY)
      } finally {
        client.destroy()
        await server.close()
      }
    },
  )
})
