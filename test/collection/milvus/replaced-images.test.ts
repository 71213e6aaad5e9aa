import { MilvusClient } from '@zilliz/milvus2-sdk-node'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { openMilvus } from '../../../src/collection/milvus/items.js'
import type { MilvusItems } from '../../../src/collection/milvus/milvus.js'
import { ReplacedImages } from '../../../src/collection/milvus/replaced-images.js'
import { hasMilvus, Milvus, withoutMilvus } from '../../support/milvus.js'

vi.setConfig({ testTimeout: 60_000 })

const KEEP_MS = 1000

describe('the image of a replaced item', () => {
  const current = new Map<string, string>()
  let isAway = false
  let slowMs = 0
  let removed: string[] = []
  let replaced: ReplacedImages

  beforeEach(() => {
    vi.useFakeTimers()
    current.clear()
    removed = []
    isAway = false
    slowMs = 0
    replaced = new ReplacedImages({
      keepMs: KEEP_MS,
      currentKeys: () => (isAway ? Promise.reject(new Error('away')) : Promise.resolve(current)),
      remove: async (keys) => {
        if (slowMs > 0) await new Promise((resolve) => setTimeout(resolve, slowMs))
        removed.push(...keys)
      },
    })
  })
  afterEach(() => vi.useRealTimers())

  it('is removed after a delay of its own', async () => {
    replaced.add([{ id: 'a', key: 'a1' }])
    await vi.advanceTimersByTimeAsync(KEEP_MS / 2)
    replaced.add([
      { id: 'a', key: 'a2' },
      { id: 'b', key: 'b1' },
    ])
    await vi.advanceTimersByTimeAsync(KEEP_MS / 2 - 1)
    expect(removed).toEqual([])
    await vi.advanceTimersByTimeAsync(1)
    expect(removed).toEqual(['a1'])
    await vi.advanceTimersByTimeAsync(KEEP_MS / 2)
    expect(removed).toEqual(['a1', 'a2', 'b1'])
  })

  it('stays if its item has its key again', async () => {
    replaced.add([
      { id: 'a', key: 'a1' },
      { id: 'b', key: 'b1' },
    ])
    current.set('a', 'a1').set('b', 'b2')
    await vi.advanceTimersByTimeAsync(KEEP_MS)
    expect(removed).toEqual(['b1'])
    await replaced.end()
    expect(removed).toEqual(['b1'])
  })

  it('stays while the current keys cannot be read', async () => {
    isAway = true
    replaced.add([
      { id: 'a', key: 'a1' },
      { id: 'a', key: 'a2' },
    ])
    await vi.advanceTimersByTimeAsync(2 * KEEP_MS)
    expect(removed).toEqual([])
    isAway = false
    await vi.advanceTimersByTimeAsync(KEEP_MS)
    expect(removed).toEqual(['a1', 'a2'])
  })

  it('does not delay the shutdown when removal is slow', async () => {
    slowMs = 2000
    replaced.add(Array.from({ length: 3000 }, (_, at) => ({ id: `${at}`, key: `key ${at}` })))
    let hasEnded = false
    void replaced.end().then(() => (hasEnded = true))
    await vi.advanceTimersByTimeAsync(8000)
    expect(hasEnded).toBe(true)
    expect(removed.length).toBeGreaterThan(128)
    expect(removed.length).toBeLessThan(1000)
  })

  it('is removed at shutdown, and no timer remains', async () => {
    replaced.add(Array.from({ length: 300 }, (_, at) => ({ id: `${at}`, key: `key ${at}` })))
    await replaced.end()
    expect(removed).toHaveLength(300)
    expect(vi.getTimerCount()).toBe(0)
  })
})

describe.skipIf(!hasMilvus)(
  `the image of a replaced item in Milvus ${withoutMilvus}`,
  { timeout: 30_000 },
  () => {
    const stored = new Map<string, Uint8Array>()
    let milvus: Milvus
    let items: MilvusItems

    beforeEach(async () => {
      milvus = await Milvus.start()
      stored.clear()
      let puts = 0
      const images = {
        put: (id: string, bytes: Uint8Array) => {
          puts += 1
          stored.set(`${id} ${puts}`, bytes)
          return Promise.resolve(`${id} ${puts}`)
        },
        get: (key: string) => Promise.resolve(stored.get(key)),
        remove: (key: string) => {
          stored.delete(key)
          return Promise.resolve()
        },
      }
      items = await openMilvus({
        ...milvus.settings,
        fingerprint: '0123456789abcdef',
        dim: 4,
        images,
      })
    })
    afterEach(async () => {
      await items.close()
      await milvus.end()
    })

    const put = (id: string, byte: number) =>
      items.put({
        id,
        payload: { byte },
        embedding: Float32Array.of(1, 0, 0, 0),
        imageTokens: new Int8Array(4),
        image: { bytes: Uint8Array.of(byte), mime: 'image/jpeg', width: 1, height: 1 },
      })

    it('is there for a write that lands after its successor', async () => {
      await put('a', 1)
      await put('b', 1)
      const client = new MilvusClient({ address: milvus.address, logLevel: 'error' })
      const name = { collection_name: milvus.settings.collection }
      const { data } = await client.query({ ...name, filter: 'id == "a"', output_fields: ['*'] })
      await put('a', 2)
      await put('b', 2)
      expect([...stored.keys()].sort()).toEqual(['a 1', 'a 3', 'b 2', 'b 4'])
      // A delayed duplicate of the first write.
      await client.upsert({ ...name, data: data as Record<string, never>[] })
      await client.closeConnection()
      const [item] = await items.getMany(['a'])
      expect([item?.payload, await items.image('a')]).toEqual([{ byte: 1 }, Uint8Array.of(1)])
      await items.close()
      expect([...stored.keys()].sort()).toEqual(['a 1', 'a 3', 'b 4'])
    })
  },
)
