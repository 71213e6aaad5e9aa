/** The parts of the HNSW index beyond the contract: snapshots, compaction, recovery. */
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { openVectorIndex } from '../../src/vector-index/open.js'
import type { VectorIndex, VectorIndexOptions } from '../../src/vector-index/vector-index.js'
import { publishSnapshot, type Sidecar } from '../../src/vector-index/snapshot.js'
import { sha256OfFile } from '../../src/files/sha256.js'
import { HnswGraph } from '../../src/vector-index/hnsw-graph.js'
import { normalise } from '../../src/vector-index/normalise.js'
import { cosine, randomEmbeddings, randomNumbers } from '../support/random-embeddings.js'

vi.setConfig({ testTimeout: 60_000 })

const DIM = 48
const embeddings = randomEmbeddings(400, DIM)
const entries = embeddings.map((embedding, i) => ({ id: `item ${i}`, embedding }))
const query = randomEmbeddings(1, DIM, 77)[0] as Float32Array

let folder: string
let index: VectorIndex

type Origin = Partial<VectorIndexOptions>

async function open(origin: Origin = {}): Promise<VectorIndex> {
  return openVectorIndex({
    kind: 'hnsw',
    folder,
    dim: DIM,
    fingerprint: 'aaaa',
    storeIdentity: 'one',
    sampleRows: 32,
    ...origin,
  })
}

/** Closes without saving, like a crash. */
async function reopen(origin: Origin = {}): Promise<void> {
  await index.close()
  index = await open(origin)
}

/** Without its digest, as earlier versions wrote it. */
async function sidecar(): Promise<Sidecar> {
  const text = await readFile(join(folder, 'hnsw.json'), 'utf8')
  return JSON.parse(text.replace(/,"sha256":"\w+"}\n$/, '}')) as Sidecar
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-hnsw-'))
  index = await open()
})

afterEach(async () => {
  await index.close()
  await rm(folder, { recursive: true, force: true })
})

describe('a snapshot', () => {
  it('restores ids, position and answers', async () => {
    await index.upsert(entries, 400)
    await index.remove(['item 7'], 401)
    await index.save()
    const before = await index.search(query, 25)
    await reopen()
    expect([index.discarded, index.size, index.position]).toEqual([null, 399, 401])
    expect(await index.search(query, 25)).toEqual(before)
    await index.upsert([{ id: 'new', embedding: query }], 402)
    expect((await index.search(query, 1))[0]?.id).toBe('new')
  })

  it('replaces the previous one and its graph file', async () => {
    await index.upsert(entries.slice(0, 10), 10)
    await index.save()
    await index.upsert(entries.slice(10, 20), 20)
    await index.save()
    await index.upsert(entries.slice(20, 30), 30)
    await reopen()
    expect([index.size, index.position]).toEqual([20, 20])
    expect((await readdir(folder)).sort()).toEqual([(await sidecar()).graph.file, 'hnsw.json'])
  })

  it('of an empty index can be read', async () => {
    await index.save()
    await reopen()
    expect([index.discarded, index.size]).toEqual([null, 0])
  })

  it('is missing before the first save, without a message', async () => {
    await reopen()
    expect([index.discarded, index.size, index.position]).toEqual([null, 0, 0])
  })

  describe('is not used and the reason is returned', () => {
    beforeEach(async () => {
      await index.upsert(entries, 400)
      await index.save()
    })

    async function expectDiscarded(sentence: RegExp): Promise<void> {
      expect(index.discarded).toMatch(sentence)
      expect([index.size, index.position]).toEqual([0, 0])
      expect(await index.search(new Float32Array(DIM).fill(1), 3).catch(() => [])).toEqual([])
    }

    it('if another bundle made it', async () => {
      await reopen({ fingerprint: 'bbbb' })
      await expectDiscarded(/aaaa.*bbbb/)
    })

    it('if it was made from another item store', async () => {
      await reopen({ storeIdentity: 'two' })
      await expectDiscarded(/another item store/)
    })

    it('if its embeddings have another length', async () => {
      await reopen({ dim: DIM * 2 })
      await expectDiscarded(/48 values, not 96/)
    })

    it('if the graph is truncated', async () => {
      await truncate(join(folder, (await sidecar()).graph.file), 1000)
      await reopen()
      await expectDiscarded(/damaged/)
    })

    it('if one byte of the graph differs', async () => {
      const file = join(folder, (await sidecar()).graph.file)
      const bytes = await readFile(file)
      bytes.writeUInt8(bytes.readUInt8(500) ^ 1, 500)
      await writeFile(file, bytes)
      await reopen()
      await expectDiscarded(/damaged/)
    })

    it('if the graph is missing', async () => {
      await rm(join(folder, (await sidecar()).graph.file))
      await reopen()
      await expectDiscarded(/damaged/)
    })

    it.each([
      ['half of it', (text: string) => text.slice(0, text.length / 2)],
      ['nothing', () => ''],
      ['another id', (text: string) => text.replace('\n"', '\n"x')],
      ['another position', (text: string) => text.replace('"position":400', '"position":401')],
      ['no digest any more', (text: string) => text.replace(/"sha256":"\w+"}\n$/, '"sha256":1}\n')],
      [
        'a path that leads out',
        (text: string) => text.replace(/hnsw-[\w-]+\.bin/, '../elsewhere.bin'),
      ],
    ])('if the sidecar has %s', async (_, damage) => {
      const file = join(folder, 'hnsw.json')
      await writeFile(file, damage(await readFile(file, 'utf8')))
      await reopen()
      await expectDiscarded(/hnsw\.json cannot be read/)
    })

    it('if the format has another version', async () => {
      await writeFile(
        join(folder, 'hnsw.json'),
        JSON.stringify({ ...(await sidecar()), format: 99 }),
      )
      await reopen()
      await expectDiscarded(/format 99/)
    })

    it('if the sidecar names other items than the graph', async () => {
      await writeFile(
        join(folder, 'hnsw.json'),
        JSON.stringify({ ...(await sidecar()), ids: ['one'] }),
      )
      await reopen()
      await expectDiscarded(/names other items/)
    })
  })
})

describe('items with one embedding', () => {
  const image = randomEmbeddings(1, DIM, 5)[0] as Float32Array
  const copies = Array.from({ length: 200 }, (_, at) => ({ id: `copy ${at}`, embedding: image }))
  const copyIds = copies.map(({ id }) => id)
  const found = async (candidates: number): Promise<string[]> =>
    (await index.search(image, candidates)).map(({ id }) => id)

  /** Every other item is the nearest to itself. */
  async function expectOthers(): Promise<void> {
    for (const { id, embedding } of entries)
      expect((await index.search(embedding, 1))[0]?.id, id).toBe(id)
  }

  beforeEach(async () => {
    await index.upsert([...entries.slice(0, 200), ...copies, ...entries.slice(200)], 600)
  })

  it('are all found and hide no other item, after a restart too', async () => {
    for (const restart of [false, true]) {
      if (restart) {
        await index.save()
        expect((await sidecar()).copies).toHaveLength(2 * (copies.length - 1))
        await reopen()
        expect([index.discarded, index.size]).toEqual([null, 600])
      }
      expect((await found(200)).sort()).toEqual(copyIds.toSorted())
      expect(await found(10)).toHaveLength(10)
      expect(await found(1000)).toHaveLength(600)
      await expectOthers()
    }
  })

  it('are removed and replaced one by one, the first one too', async () => {
    await index.remove(copyIds.slice(0, 150), 601)
    await index.upsert([{ id: 'copy 199', embedding: query }], 602)
    const left = copyIds.slice(150, 199).toSorted()
    for (const restart of [false, true]) {
      if (restart) {
        await index.save()
        await reopen()
      }
      expect((await found(49)).sort()).toEqual(left)
      expect((await index.search(query, 1))[0]?.id).toBe('copy 199')
    }
    await index.remove(copyIds, 603)
    expect(await found(1000)).toHaveLength(400)
    await expectOthers()
    await index.upsert(copies.slice(0, 3), 604)
    expect((await found(3)).sort()).toEqual(copyIds.slice(0, 3))
  })

  it('remain one node in a compaction', async () => {
    await index.remove(copyIds.slice(0, 100), 601)
    await index.remove(
      entries.slice(0, 250).map(({ id }) => id),
      602,
    )
    await vi.waitFor(async () => {
      await index.save()
      expect((await sidecar()).ids).toHaveLength(250)
    }, 20_000)
    expect((await sidecar()).copies).toHaveLength(2 * 99)
    expect((await found(100)).sort()).toEqual(copyIds.slice(100).toSorted())
  })

  it('may differ by the rounding of a batch, but not by more', async () => {
    const shifted = (by: number) => image.map((value, at) => value + (at % 2 === 0 ? by : -by))
    await index.upsert([{ id: 'rounded', embedding: shifted(2e-7) }], 601)
    await index.upsert([{ id: 'near', embedding: shifted(1e-3) }], 602)
    await index.save()
    const { copies: pairs, near } = await sidecar()
    expect([pairs?.length, near?.labels]).toEqual([2 * (copies.length + 1), [601]])
    expect((await index.search(shifted(1e-3), 1))[0]?.id).toBe('near')
    expect(await found(201)).toContain('rounded')
  })
})

describe('items near one another', () => {
  const [image] = randomEmbeddings(1, DIM, 5) as [Float32Array]
  const next = randomNumbers(6)
  const near = Array.from({ length: 300 }, (_, at) => ({
    id: `near ${at}`,
    embedding: image.map((value) => value + 0.05 * (next() - 0.5)),
  }))
  const queries = randomEmbeddings(20, DIM, 8).map((other) =>
    other.map((value, at) => 0.3 * value + (image[at] as number)),
  )

  /** What a comparison with each of them finds is found, in this order. */
  async function expectExact(stored: readonly { id: string; embedding: Float32Array }[]) {
    for (const one of queries) {
      const best = stored
        .map(({ id, embedding }) => ({ id, similarity: cosine(one, embedding) }))
        .sort((a, b) => b.similarity - a.similarity)
        .slice(0, 20)
      const found = await index.search(one, 20)
      expect(found.map(({ id }) => id)).toEqual(best.map(({ id }) => id))
      found.forEach(({ similarity }, at) =>
        expect(similarity).toBeCloseTo(best[at]?.similarity as number, 5),
      )
    }
  }

  async function expectOthers(): Promise<void> {
    for (const { id, embedding } of entries)
      expect((await index.search(embedding, 1))[0]?.id, id).toBe(id)
  }

  it('are one node, and are found exactly, after a restart too', async () => {
    await index.upsert([...entries.slice(0, 200), ...near, ...entries.slice(200)], 700)
    for (const restart of [false, true]) {
      if (restart) {
        await index.save()
        const saved = await sidecar()
        expect(saved.near?.labels).toHaveLength(near.length - 1)
        expect((await readdir(folder)).sort()).toEqual(
          [saved.near?.file, saved.graph.file, 'hnsw.json'].sort(),
        )
        await reopen()
        expect([index.discarded, index.size]).toEqual([null, 700])
      }
      await expectExact([...near, ...entries])
      await expectOthers()
      expect(await index.search(query, 1000)).toHaveLength(700)
    }
  })

  it('are removed and replaced one by one, the first one too, and survive a compaction', async () => {
    await index.upsert([...near, ...entries.slice(0, 100)], 400)
    const moved = { id: 'near 299', embedding: embeddings[100] as Float32Array }
    await index.remove(
      near.slice(0, 100).map(({ id }) => id),
      401,
    )
    await index.upsert([moved], 402)
    const left = [...near.slice(100, 299), ...entries.slice(0, 100), moved]
    await expectExact(left)
    await index.save()
    await reopen()
    await expectExact(left)
    await index.remove(
      entries.slice(0, 100).map(({ id }) => id),
      403,
    )
    await vi.waitFor(async () => {
      await index.save()
      expect((await sidecar()).ids).toHaveLength(200)
    }, 20_000)
    await expectExact(left.filter(({ id }) => !id.startsWith('item')))
    await index.remove(
      near.map(({ id }) => id),
      404,
    )
    expect(await index.search(query, 1000)).toEqual([])
  })

  it('are not used from a snapshot whose file of them is damaged or missing', async () => {
    await index.upsert(near, 300)
    for (const damage of [(file: string) => truncate(file, 1000), (file: string) => rm(file)]) {
      await index.save()
      await damage(join(folder, (await sidecar()).near?.file as string))
      await reopen()
      expect([index.discarded, index.size]).toEqual([expect.stringMatching(/damaged/), 0])
      await index.upsert(near, 300)
    }
  })

  it('are joined in a graph of an earlier version, in which each is a node', async () => {
    const all = [...entries.slice(0, 200), ...near, ...entries.slice(200)]
    const graph = HnswGraph.empty(DIM)
    all.forEach(({ embedding }, label) => graph.add(label, normalise(embedding, DIM)))
    graph.markDeleted([0])
    const file = 'hnsw-700-earlier.bin'
    graph.save(join(folder, file))
    const { sha256 } = await sha256OfFile(join(folder, file))
    await publishSnapshot(folder, {
      fingerprint: 'aaaa',
      dim: DIM,
      storeIdentity: 'one',
      position: 700,
      ids: all.map(({ id }, label) => (label === 0 ? null : id)),
      graph: { file, sha256 },
    })
    await reopen()
    expect([index.discarded, index.size, index.position]).toEqual([null, 699, 700])
    await vi.waitFor(async () => {
      await index.save()
      expect((await sidecar()).near?.labels).toHaveLength(near.length - 1)
    }, 20_000)
    await expectExact([...near, ...entries.slice(1)])
  })
})

describe('the measured recall', () => {
  it('is known after enough searches', async () => {
    await reopen({ sampleRows: 256 })
    await index.upsert(entries, 400)
    expect(index.annRecall).toBeNull()
    const search = (at: number): Promise<unknown> =>
      index.search(embeddings[at % 400] as Float32Array, 200)
    for (let at = 0; at < 2000 && index.annRecall === null; at += 1) await search(at)
    expect(index.annRecall).toBeGreaterThan(0.97)
    expect(index.annRecall).toBeLessThanOrEqual(1)
  })

  it('ignores removed items after a restart', async () => {
    await index.upsert(entries, 400)
    await index.remove(['item 0', 'item 13', 'item 16'], 401)
    await index.save()
    await reopen({ sampleRows: 256 })
    const rest = entries.filter(({ id }) => !['item 0', 'item 13', 'item 16'].includes(id))
    for (let at = 0; at < 2000 && index.annRecall === null; at += 1) {
      await index.search((rest[at % rest.length] as { embedding: Float32Array }).embedding, 200)
    }
    // An expected but removed item would count as missed in each search near it.
    expect(index.annRecall).toBeGreaterThan(0.97)
  })
})

describe('a compaction', () => {
  it('keeps every item reachable if the graph is emptied and filled again', async () => {
    const missing: string[] = []
    for (let round = 0; round < 10; round += 1) {
      const ids = Array.from({ length: 20 }, (_, at) => `item ${round}/${at}`)
      for (const [at, id] of ids.entries()) {
        await index.upsert(
          [{ id, embedding: embeddings[20 * round + at] as Float32Array }],
          index.position + 1,
        )
      }
      const found = new Set((await index.search(query, 1000)).map(({ id }) => id))
      missing.push(...ids.filter((id) => !found.has(id)))
      for (const id of ids) await index.remove([id], index.position + 1)
    }
    expect(missing).toEqual([])
  })

  /** Number of labels in the last snapshot, with the empty ones. */
  async function labelCount(): Promise<number> {
    await index.save()
    return (await sidecar()).ids.length
  }

  it('runs when more than half of the labels are deleted, and keeps all answers', async () => {
    await index.upsert(entries, 400)
    const remaining = entries.slice(300)
    await index.remove(
      entries.slice(0, 300).map(({ id }) => id),
      700,
    )
    await expect.poll(labelCount).toBe(100)
    for (const { id, embedding } of remaining)
      expect((await index.search(embedding, 1))[0]?.id).toBe(id)
    expect((await index.search(query, 400)).length).toBe(100)
    await reopen()
    expect([index.discarded, index.size]).toEqual([null, 100])
  })

  it('does not change answers while it runs and snapshots are saved', async () => {
    await index.upsert(entries, 400)
    const before = (await index.search(query, 400)).filter(({ id }) => Number(id.slice(5)) >= 300)
    await index.remove(
      entries.slice(0, 300).map(({ id }) => id),
      700,
    )
    let labels = 400
    let searches = 0
    const save = async (): Promise<void> => {
      while (labels !== 100) labels = await labelCount()
    }
    const search = async (): Promise<void> => {
      for (; labels !== 100; searches += 1) expect(await index.search(query, 400)).toEqual(before)
    }
    await Promise.all([save(), search()])
    expect(searches).toBeGreaterThan(5)
  })

  it('includes concurrent changes', async () => {
    await index.upsert(entries, 400)
    await index.remove(
      entries.slice(0, 250).map(({ id }) => id),
      650,
    )
    // The compaction has begun; these changes come between its steps.
    const changes = [
      index.upsert(
        [
          { id: 'item 260', embedding: query },
          { id: 'new', embedding: embeddings[0] as Float32Array },
        ],
        652,
      ),
      index.remove(['item 399', 'item 251'], 654),
    ]
    const searches = Array.from({ length: 20 }, () =>
      index.search(embeddings[300] as Float32Array, 1),
    )
    await Promise.all(changes)
    for (const found of await Promise.all(searches)) expect(found[0]?.id).toBe('item 300')
    await expect.poll(labelCount).toBeLessThan(160)
    expect(index.size).toBe(149)
    const found = await index.search(query, 200)
    expect(found[0]).toMatchObject({ id: 'item 260' })
    expect(found.map(({ id }) => id).sort()).toEqual([...index.ids()].sort())
    expect(index.has('item 251')).toBe(false)
  })
})

describe('after the death of its process', () => {
  /** Kills it and waits for the next process. */
  async function killProcess(): Promise<void> {
    const returned = new Promise<void>((resolve) => index.onReturn(resolve))
    process.kill(index.workers[0]?.pid as number, 'SIGKILL')
    await expect.poll(() => index.lost).toBe(true)
    await expect(index.search(query, 5)).rejects.toMatchObject({
      code: 'index_unavailable',
      retryAfterS: 1,
    })
    await returned
  }

  it('the index is lost until the snapshot is loaded and later changes are replayed', async () => {
    await index.upsert(entries.slice(0, 300), 300)
    await index.save()
    await index.upsert(entries.slice(300), 400)
    const before = await index.search(query, 25)
    await killProcess()
    expect(index.workers).toMatchObject([{ name: 'index', ready: false, restarts: 1 }])
    // The new process has no graph: partial answers and partial changes are refused.
    await expect(index.search(query, 5)).rejects.toMatchObject({ code: 'index_unavailable' })
    await expect(index.upsert(entries.slice(0, 1), 401)).rejects.toMatchObject({
      code: 'index_unavailable',
    })
    await expect(index.save()).rejects.toMatchObject({ code: 'index_unavailable' })
    await index.recover(async () => {
      expect([index.size, index.position]).toEqual([300, 300])
      await expect(index.search(query, 5)).rejects.toMatchObject({ code: 'index_unavailable' })
      await index.upsert(entries.slice(300), 400)
    })
    expect([index.lost, index.position]).toEqual([false, 400])
    expect(await index.search(query, 25)).toEqual(before)
    expect(index.workers).toMatchObject([{ ready: true, restarts: 1 }])
  })

  it('the index starts empty without a snapshot', async () => {
    await index.upsert(entries, 400)
    await killProcess()
    await index.recover(async () => {
      expect([index.size, index.position]).toEqual([0, 0])
      await index.upsert(entries, 400)
    })
    expect((await index.search(query, 400)).length).toBe(400)
  })

  it('the index stays lost if the repair fails or the process dies again', async () => {
    await index.upsert(entries, 400)
    await killProcess()
    await expect(index.recover(() => Promise.reject(new Error('no store')))).rejects.toThrow(
      'no store',
    )
    expect(index.lost).toBe(true)
    await expect(index.recover(killProcess)).rejects.toMatchObject({ code: 'index_unavailable' })
    expect(index.lost).toBe(true)
    await index.recover(() => index.upsert(entries, 400))
    expect((await index.search(query, 1)).length).toBe(1)
  })

  it('running and waiting calls are refused, and no change is half applied', async () => {
    await index.upsert(entries.slice(0, 100), 100)
    await index.save()
    const outcomes = Promise.allSettled([
      index.upsert(entries.slice(100), 400),
      index.remove(['item 1'], 401),
    ])
    process.kill(index.workers[0]?.pid as number, 'SIGKILL')
    for (const outcome of await outcomes) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'index_unavailable' } })
    }
    await expect
      .poll(() => index.recover(() => Promise.resolve()).catch(() => null), { timeout: 15_000 })
      .toBeUndefined()
    expect([index.size, index.position]).toEqual([100, 100])
  })
})
