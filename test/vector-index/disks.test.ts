/** Snapshots of the index on a disk that is full. */
import { readdir } from 'node:fs/promises'
import { describe, expect, it, vi } from 'vitest'
import { openVectorIndex } from '../../src/vector-index/open.js'
import type { VectorIndex } from '../../src/vector-index/vector-index.js'
import { smallDisk, type Disk } from '../support/small-disk.js'
import { randomEmbeddings } from '../support/random-embeddings.js'

vi.setConfig({ testTimeout: 60_000 })

const DIM = 32

function indexOn({ folder }: Disk): Promise<VectorIndex> {
  return openVectorIndex({
    kind: 'hnsw',
    folder,
    dim: DIM,
    fingerprint: 'aaaa',
    storeIdentity: 'store',
  })
}

describe('a snapshot on a full disk', () => {
  it('fails without leaving files, keeps the previous one, and succeeds once there is space', async (context) => {
    const disk = await smallDisk(4)
    if (disk === null) return context.skip('this process may not mount a disk')
    const embeddings = randomEmbeddings(3000, DIM)
    const entries = embeddings.map((embedding, at) => ({ id: `item ${at}`, embedding }))
    let index = await indexOn(disk)
    try {
      await index.upsert(entries.slice(0, 100), 100)
      await index.save()
      const before = await readdir(disk.folder)
      await index.upsert(entries.slice(100), 3000)
      const graphBytes = 3000 * DIM * 4
      // The disk fills up at the first byte, in the header, among the elements.
      for (const freeBytes of [0, 4096, 40_960, graphBytes]) {
        disk.fill(freeBytes)
        await expect(index.save(), `${freeBytes} bytes are free`).rejects.toThrow(/no space/i)
        expect(await readdir(disk.folder)).toEqual(before)
      }
      await index.close()
      index = await indexOn(disk)
      expect(index.discarded).toBeNull()
      expect(index.position).toBe(100)

      await index.upsert(entries.slice(100), 3000)
      disk.freeSpace()
      await index.save()
      await index.close()
      index = await indexOn(disk)
      expect(index.position).toBe(3000)
    } finally {
      await index.close()
      await disk.end()
    }
  })
})
