/**
 * One suite over both places of images; what only a folder or only a bucket can meet is in
 * image-store/.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { ImageStore } from '../../src/image-store/image-store.js'
import { openImageStore, type ImageStoreOptions } from '../../src/image-store/open.js'
import { credentials, S3Server, s3ServerMissing } from '../support/s3-server.js'

interface Ground {
  options: () => ImageStoreOptions
  /** Puts other bytes in the place of those under a key, as a broken disk would. */
  spoil: (key: string, bytes: Uint8Array) => Promise<unknown>
  close: () => Promise<void>
}

async function folderGround(): Promise<Ground> {
  const folder = await mkdtemp(join(tmpdir(), 'tandem-images-'))
  return {
    options: () => ({
      place: { folder: join(folder, 'not', 'there') },
      collection: 'yet',
      timeoutMs: 20_000,
    }),
    spoil: (key, bytes) => writeFile(join(folder, 'not', 'there', 'yet', key), bytes),
    close: () => rm(folder, { recursive: true }),
  }
}

async function bucketGround(): Promise<Ground> {
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
    spoil: (key, Body) =>
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
  ['a folder', folderGround, null],
  ['a bucket', bucketGround, s3ServerMissing],
])('images in %s', (_, open, missing) => {
  let ground: Ground
  let store: ImageStore

  describe.skipIf(missing !== null)(missing ?? 'one place', () => {
    beforeAll(async () => {
      ground = await open()
      store = await openImageStore(ground.options())
    }, 30_000)

    afterAll(async () => {
      store.close()
      await ground.close()
    })

    it('are read as they were put, also by a store that is opened later', async () => {
      const bytes = image()
      const key = await store.put('beach', bytes)
      expect(Buffer.from((await store.get(key)) ?? [])).toEqual(Buffer.from(bytes))
      const later = await openImageStore(ground.options())
      expect(Buffer.from((await later.get(key)) ?? [])).toEqual(Buffer.from(bytes))
      later.close()
    })

    it('are gone once they are removed, and removing them again is no error', async () => {
      const key = await store.put('beach', image())
      await store.remove(key)
      await store.remove(key)
      expect(await store.get(key)).toBeUndefined()
    })

    it('are never overwritten: each put has a key of its own', async () => {
      const [before, after] = [image(), image()]
      const keys = [
        await store.put('same', before),
        await store.put('same', after),
        await store.put('same', after),
      ]
      expect(new Set(keys).size).toBe(3)
      expect(Buffer.from((await store.get(keys[0] ?? '')) ?? [])).toEqual(Buffer.from(before))
      // Of the same bytes one may go while the other stays.
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
    ])('take any id: %s', async (id) => {
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

    it('are refused when their bytes have changed or are cut short', async () => {
      const bytes = image()
      const key = await store.put('spoilt', bytes)
      for (const other of [bytes.subarray(0, 15_000), image()]) {
        await ground.spoil(key, other)
        await expect(store.get(key)).rejects.toMatchObject({ code: 'image_store_failed' })
      }
      await ground.spoil(key, bytes)
      expect(await store.get(key)).toBeDefined()
    })

    it('are listed with the time of their storing', async () => {
      const before = await keysOf(store)
      const put = await Promise.all(
        Array.from({ length: 40 }, () => store.put(randomUUID(), image())),
      )
      expect(await keysOf(store)).toEqual([...before, ...put].sort())
      for await (const { storedAt } of store.list())
        expect(Math.abs(Date.now() - storedAt.getTime())).toBeLessThan(120_000)
      await Promise.all(put.map((key) => store.remove(key)))
      expect(await keysOf(store)).toEqual(before)
    })

    it('of another collection are not seen', async () => {
      const other = await openImageStore({ ...ground.options(), collection: 'another' })
      const key = await store.put('beach', image())
      expect(await other.get(key)).toBeUndefined()
      expect(await keysOf(other)).toEqual([])
      await other.remove(key)
      expect(await store.get(key)).toBeDefined()
      other.close()
      await expect(openImageStore({ ...ground.options(), collection: '../eu-1' })).rejects.toThrow(
        '"../eu-1"',
      )
    })

    it('are not asked for by a caller who has gone', async () => {
      const signal = AbortSignal.abort(new Error('the client has gone'))
      await expect(store.put('late', image(), { signal })).rejects.toThrow('the client has gone')
      const key = await store.put('there', image())
      await expect(store.get(key, { signal })).rejects.toThrow('the client has gone')
    })
  })
})
