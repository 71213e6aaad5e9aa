/** One suite for both places of images; each place has another for its own failures. */
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { ImageStore } from '../../src/image-store/image-store.js'
import { openImageStore, type ImageStoreOptions } from '../../src/image-store/open.js'
import { credentials, S3Server, s3ServerMissing } from '../support/s3-server.js'

interface TestPlace {
  options: () => ImageStoreOptions
  /** Replaces the bytes under a key, as a defective disk would. */
  corrupt: (key: string, bytes: Uint8Array) => Promise<unknown>
  close: () => Promise<void>
}

async function folderPlace(): Promise<TestPlace> {
  const folder = await mkdtemp(join(tmpdir(), 'tandem-images-'))
  return {
    options: () => ({
      place: { folder: join(folder, 'not', 'there') },
      collection: 'yet',
      timeoutMs: 20_000,
    }),
    corrupt: (key, bytes) => writeFile(join(folder, 'not', 'there', 'yet', key), bytes),
    close: () => rm(folder, { recursive: true }),
  }
}

async function bucketPlace(): Promise<TestPlace> {
  for (const [name, value] of Object.entries(credentials)) vi.stubEnv(name, value)
  const server = await S3Server.start()
  const { endpoint } = server
  const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true })
  await client.send(new CreateBucketCommand({ Bucket: 'photos' }))
  return {
    options: () => ({
      place: { bucket: 'photos', prefix: 'tandem' },
      collection: 'eu-1',
      endpoint,
      timeoutMs: 20_000,
    }),
    corrupt: (key, Body) =>
      client.send(new PutObjectCommand({ Bucket: 'photos', Key: `tandem/eu-1/${key}`, Body })),
    close: async () => {
      client.destroy()
      await server.close()
      vi.unstubAllEnvs()
    },
  }
}

const image = (): Uint8Array => new Uint8Array(randomBytes(30_000))

async function keysOf(store: ImageStore): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of store.list()) keys.push(key)
  return keys.sort()
}

describe.each([
  ['a folder', folderPlace, null],
  ['a bucket', bucketPlace, s3ServerMissing],
])('images in %s', (_, open, missing) => {
  let place: TestPlace
  let store: ImageStore

  describe.skipIf(missing !== null)(missing ?? 'one place', () => {
    beforeAll(async () => {
      place = await open()
      store = await openImageStore(place.options())
    }, 30_000)

    afterAll(async () => {
      store.close()
      await place.close()
    })

    it('are read as they were put, also by another store', async () => {
      const bytes = image()
      const key = await store.put('beach', bytes)
      expect(Buffer.from((await store.get(key)) ?? [])).toEqual(Buffer.from(bytes))
      const other = await openImageStore(place.options())
      expect(Buffer.from((await other.get(key)) ?? [])).toEqual(Buffer.from(bytes))
      other.close()
    })

    it('can be removed, and a second removal is no error', async () => {
      const key = await store.put('beach', image())
      await store.remove(key)
      await store.remove(key)
      expect(await store.get(key)).toBeUndefined()
    })

    it('are never overwritten, because each put has a unique key', async () => {
      const [before, after] = [image(), image()]
      const keys = [
        await store.put('same', before),
        await store.put('same', after),
        await store.put('same', after),
      ]
      expect(new Set(keys).size).toBe(3)
      expect(Buffer.from((await store.get(keys[0] ?? '')) ?? [])).toEqual(Buffer.from(before))
      // Equal bytes under another key stay.
      await store.remove(keys[1] ?? '')
      expect(Buffer.from((await store.get(keys[2] ?? '')) ?? [])).toEqual(Buffer.from(after))
    })

    it.each([
      '../../outside',
      '/etc/passwd',
      'a/b/../c',
      '.',
      'ünïcode 写真',
      'x'.repeat(256),
      '%2e%2e/',
      'nul\\con',
    ])('accept any id, such as %s', async (id) => {
      const bytes = image()
      const key = await store.put(id, bytes)
      expect(key).toMatch(/^[0-9a-f]{2}\/[0-9a-f]{2}\/[0-9a-f-]+$/)
      expect(key).toHaveLength(120)
      expect(Buffer.from((await store.get(key)) ?? [])).toEqual(Buffer.from(bytes))
    })

    it.each(['', '../x', '/etc/passwd', `aa/bb/../../${'a'.repeat(64)}`])(
      'refuse %j as a key',
      async (key) => {
        await expect(store.get(key)).rejects.toThrow('is not the key of an image')
        await expect(store.remove(key)).rejects.toThrow('is not the key of an image')
      },
    )

    it('are not returned when their bytes were changed or truncated', async () => {
      const bytes = image()
      const key = await store.put('corrupt', bytes)
      for (const other of [bytes.subarray(0, 15_000), image()]) {
        await place.corrupt(key, other)
        await expect(store.get(key)).rejects.toMatchObject({ code: 'image_store_failed' })
      }
      await place.corrupt(key, bytes)
      expect(await store.get(key)).toBeDefined()
    })

    it('are listed with the time at which they were stored', async () => {
      const before = await keysOf(store)
      const added = await Promise.all(
        Array.from({ length: 40 }, () => store.put(randomUUID(), image())),
      )
      expect(await keysOf(store)).toEqual([...before, ...added].sort())
      for await (const { storedAt } of store.list())
        expect(Math.abs(Date.now() - storedAt.getTime())).toBeLessThan(120_000)
      await Promise.all(added.map((key) => store.remove(key)))
      expect(await keysOf(store)).toEqual(before)
    })

    it('of another collection are not visible', async () => {
      const other = await openImageStore({ ...place.options(), collection: 'another' })
      const key = await store.put('beach', image())
      expect(await other.get(key)).toBeUndefined()
      expect(await keysOf(other)).toEqual([])
      await other.remove(key)
      expect(await store.get(key)).toBeDefined()
      other.close()
      await expect(openImageStore({ ...place.options(), collection: '../eu-1' })).rejects.toThrow(
        '"../eu-1"',
      )
    })

    it('are neither stored nor read for a caller that has disconnected', async () => {
      const signal = AbortSignal.abort(new Error('the client has disconnected'))
      await expect(store.put('late', image(), { signal })).rejects.toThrow(
        'the client has disconnected',
      )
      const key = await store.put('there', image())
      await expect(store.get(key, { signal })).rejects.toThrow('the client has disconnected')
    })
  })
})
