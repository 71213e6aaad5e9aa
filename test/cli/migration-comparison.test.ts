/** The comparison at the end of a migration. */
import { describe, expect, it } from 'vitest'
import type { Item } from '../../src/collection/collection.js'
import { compare, faultsOf } from '../../src/cli/migration/comparison.js'
import type { Searched } from '../../src/cli/migration/sides.js'
import { testItem } from '../support/test-item.js'
import { cosine, randomEmbeddings } from '../support/random-embeddings.js'

const COUNT = 40
const embeddings = randomEmbeddings(COUNT, 8)
const SAMPLE = { items: COUNT, searches: 10 }
const ids = Array.from({ length: COUNT }, (_, at) => `item-${at}`)

class MadeSide implements Searched {
  readonly name = 'made'
  readonly size = COUNT
  readonly items = new Map<string, Item>()
  readonly images = new Map<string, Uint8Array>()
  /** Added to every similarity, and how many of the best are missed. */
  error = 0
  missed = 0

  constructor() {
    ids.forEach((id, at) => {
      const { image, ...item } = testItem(id)
      const { bytes, ...about } = image
      const addedAt = '2026-01-01T00:00:00.000Z'
      this.items.set(id, {
        ...item,
        addedAt,
        embedding: embeddings[at] as Float32Array,
        image: { ...about, size: bytes.byteLength },
      })
      this.images.set(id, bytes)
    })
  }

  async *pages() {
    yield await Promise.resolve([...this.items.values()])
  }

  getMany(wanted: readonly string[]) {
    return Promise.resolve(wanted.map((id) => this.items.get(id)))
  }

  image(id: string) {
    return Promise.resolve(this.images.get(id))
  }

  recall(embedding: Float32Array, k: number) {
    const all = [...this.items.values()].map((item) => ({
      id: item.id,
      similarity: cosine(embedding, item.embedding) + this.error,
    }))
    return Promise.resolve(
      all.sort((a, b) => b.similarity - a.similarity).slice(this.missed, this.missed + k),
    )
  }

  change(id: string, change: Partial<Item>): void {
    this.items.set(id, { ...(this.items.get(id) as Item), ...change })
  }
}

async function faults(spoil: (side: MadeSide) => void): Promise<string[]> {
  const other = new MadeSide()
  spoil(other)
  return faultsOf(await compare(new MadeSide(), other, 8, SAMPLE))
}

describe('the comparison of two collections', () => {
  it('finds no fault in equal ones', async () => {
    expect(await faults(() => undefined)).toEqual([])
    const side = new MadeSide()
    expect(await compare(side, side, 8, SAMPLE)).toMatchObject({
      same: COUNT,
      searches: 10,
      annRecall: 1,
      different: [],
    })
  })

  it.each([
    ['another payload', (side: MadeSide) => side.change('item-3', { payload: null })],
    [
      'one other image token',
      (side: MadeSide) => side.change('item-3', { imageTokens: new Int8Array(33) }),
    ],
    [
      'one other value in an embedding',
      (side: MadeSide) =>
        side.change('item-3', {
          embedding: (embeddings[3] as Float32Array).map((value, at) =>
            at === 0 ? value + 1e-6 : value,
          ),
        }),
    ],
    ['another image', (side: MadeSide) => void side.images.set('item-3', Buffer.from('x'))],
    ['no image', (side: MadeSide) => void side.images.delete('item-3')],
  ])('finds %s', async (_what, spoil) => {
    expect(await faults(spoil)).toEqual(['items that differ: 1 (item-3)'])
  })

  it('ignores items that changed meanwhile', async () => {
    expect(
      await faults((side) =>
        side.change('item-3', { payload: null, addedAt: '2026-01-02T00:00:00.000Z' }),
      ),
    ).toEqual([])
  })

  it('finds other similarities and missed neighbours', async () => {
    expect((await faults((side) => (side.error = 0.002))).join()).toMatch(
      /items with other similarities/,
    )
    expect((await faults((side) => (side.missed = 3))).join()).toMatch(
      /searches find 0\.\d+ of the exact answers/,
    )
  })
})
