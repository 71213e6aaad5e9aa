/** When the images of replaced items go, and that none goes that an item names. */
import { MilvusClient } from '@zilliz/milvus2-sdk-node'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { openMilvus } from '../../../src/collection/milvus/items.js'
import type { MilvusItems } from '../../../src/collection/milvus/milvus.js'
import { ReplacedImages } from '../../../src/collection/milvus/replaced-images.js'
import { hasMilvus, Milvus, withoutMilvus } from '../../support/milvus.js'

const KEEP_MS = 1000

describe('images that were replaced', () => {
  const named = new Map<string, string>()
  let isAway = false
  let slowMs = 0
  let removed: string[] = []
  let replaced: ReplacedImages

  beforeEach(() => {
    vi.useFakeTimers()
    named.clear()
    removed = []
    isAway = false
    slowMs = 0
    replaced = new ReplacedImages({
      keepMs: KEEP_MS,
      currentKeys: () => (isAway ? Promise.reject(new Error('away')) : Promise.resolve(named)),
      remove: async (keys) => {
        if (slowMs > 0) await new Promise((resolve) => setTimeout(resolve, slowMs))
        removed.push(...keys)
      },
    })
  })
  afterEach(() => vi.useRealTimers())

  it('are removed a while later, each in its time', async () => {
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

  it('stay where their item names them again', async () => {
    replaced.add([
      { id: 'a', key: 'a1' },
      { id: 'b', key: 'b1' },
    ])
    named.set('a', 'a1').set('b', 'b2')
    await vi.advanceTimersByTimeAsync(KEEP_MS)
    expect(removed).toEqual(['b1'])
    await replaced.end()
    expect(removed).toEqual(['b1'])
  })

  it('stay while nobody can say what is named', async () => {
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

  it('do not keep a service from ending where they can be removed but slowly', async () => {
    slowMs = 2000
    replaced.add(Array.from({ length: 3000 }, (_, at) => ({ id: `${at}`, key: `key ${at}` })))
    let hasEnded = false
    void replaced.end().then(() => (hasEnded = true))
    await vi.advanceTimersByTimeAsync(8000)
    expect(hasEnded).toBe(true)
    expect(removed.length).toBeGreaterThan(128)
    expect(removed.length).toBeLessThan(1000)
  })

  it('are removed when the service ends, and no later', async () => {
    replaced.add(Array.from({ length: 300 }, (_, at) => ({ id: `${at}`, key: `key ${at}` })))
    await replaced.end()
    expect(removed).toHaveLength(300)
    expect(vi.getTimerCount()).toBe(0)
  })
})

describe.skipIf(!hasMilvus)(`images of replaced items in Milvus ${withoutMilvus}`, () => {
  const kept = new Map<string, Uint8Array>()
  let milvus: Milvus
  let items: MilvusItems

  beforeEach(async () => {
    milvus = await Milvus.start()
    kept.clear()
    let puts = 0
    const images = {
      put: (id: string, bytes: Uint8Array) => {
        puts += 1
        kept.set(`${id} ${puts}`, bytes)
        return Promise.resolve(`${id} ${puts}`)
      },
      get: (key: string) => Promise.resolve(kept.get(key)),
      remove: (key: string) => {
        kept.delete(key)
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

  it('are there for a write that lands after the one that replaced it', async () => {
    await put('a', 1)
    await put('b', 1)
    const client = new MilvusClient({ address: milvus.address, logLevel: 'error' })
    const name = { collection_name: milvus.settings.collection }
    const { data } = await client.query({ ...name, filter: 'id == "a"', output_fields: ['*'] })
    await put('a', 2)
    await put('b', 2)
    expect([...kept.keys()].sort()).toEqual(['a 1', 'a 3', 'b 2', 'b 4'])
    // As it was on its way all the time.
    await client.upsert({ ...name, data: data as Record<string, never>[] })
    await client.closeConnection()
    const [item] = await items.getMany(['a'])
    expect([item?.payload, await items.image('a')]).toEqual([{ byte: 1 }, Uint8Array.of(1)])
    await items.close()
    expect([...kept.keys()].sort()).toEqual(['a 1', 'a 3', 'b 4'])
  })
})
