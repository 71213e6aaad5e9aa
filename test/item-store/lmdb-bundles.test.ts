/** Two bundles in one store: encodings of the next bundle, promotion and end. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Change, Encoding, ItemStore } from '../../src/item-store/item-store.js'
import { StoreMismatchError } from '../../src/item-store/stamp.js'
import { openItemStore } from '../../src/item-store/open.js'
import { testItem } from '../support/test-item.js'

let folder: string
let store: ItemStore

const open = (fingerprint: string | null, name?: string): Promise<ItemStore> =>
  openItemStore({ folder, fingerprint, ...(name === undefined ? {} : { name }) })

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-bundles-'))
  store = await open('aaaa', 'first')
})
afterEach(async () => {
  await store.close()
  await rm(folder, { recursive: true, force: true })
})

async function reopen(fingerprint: string | null = 'aaaa', name?: string): Promise<void> {
  await store.close()
  store = await open(fingerprint, name)
}

const B = { name: 'second', fingerprint: 'bbbb' }
const next = (): ItemStore => store.bundles.view('bbbb')

/** Encoding by the second bundle: other lengths, values from id and position. */
const encodingOf = ({ id, position }: Change): Change & Encoding => ({
  id,
  position,
  embedding: Float32Array.from({ length: 4 }, (_, at) => position + at),
  imageTokens: new Int8Array(5).fill(id.length),
})

/** Encodes all pending changes, `step` at a time. */
async function encodeAll(step = 3): Promise<number> {
  let steps = 0
  for (;;) {
    const { changes, position } = next().pending(step)
    await next().addEncodings(changes.map(encodingOf), position)
    steps += 1
    if (changes.length < step) return steps
  }
}

describe('the next bundle', () => {
  it('gets pending changes in their order and continues after reopening', async () => {
    await store.put(['a', 'b', 'c', 'd'].map((id) => testItem(id)))
    await store.bundles.begin(B)
    expect(store.bundles).toMatchObject({
      serving: { name: 'first', fingerprint: 'aaaa' },
      next: B,
    })
    expect([next().size, next().position, next().lag]).toEqual([0, 0, 4])
    const { changes, position } = next().pending(3)
    expect(changes).toEqual([1, 2, 3].map((at) => ({ id: 'abc'[at - 1], position: at })))
    await next().addEncodings(changes.map(encodingOf), position)
    await reopen()
    expect([next().size, next().position, next().lag]).toEqual([3, 3, 1])
    await encodeAll()
    expect(next().get('d')).toMatchObject({
      payload: testItem('d').payload,
      ...encodingOf({ id: 'd', position: 4 }),
    })
    expect([...next().since(0)].map(({ id }) => id)).toEqual(['a', 'b', 'c', 'd'])
    expect(store.get('d')?.embedding).toEqual(testItem('d').embedding)
  })

  it('does not show a replaced item and rejects the encoding of its former image', async () => {
    await store.put(['a', 'b'].map((id) => testItem(id)))
    await store.bundles.begin(B)
    const early = next().pending(10)
    await encodeAll()
    await store.put([testItem('a', 1)])
    expect(next().get('a')).toBeUndefined()
    expect(
      next()
        .getMany(['a', 'b'])
        .map((item) => item?.id),
    ).toEqual([undefined, 'b'])
    expect(next().lag).toBe(1)
    await next().addEncodings(early.changes.map(encodingOf), early.position)
    expect(next().get('a')).toBeUndefined()
    await encodeAll()
    expect(next().get('a')).toMatchObject(encodingOf({ id: 'a', position: 3 }))
  })

  it('loses a removed item and skips a late encoding of it', async () => {
    await store.put(['a', 'b'].map((id) => testItem(id)))
    await store.bundles.begin(B)
    const late = next().pending(10)
    await encodeAll()
    await store.remove(['a'])
    expect([next().has('a'), next().size]).toEqual([false, 1])
    await next().addEncodings(late.changes.map(encodingOf), late.position)
    expect([next().has('a'), next().size]).toEqual([false, 1])
  })

  it('rejects items, and the serving bundle rejects encodings', async () => {
    await store.bundles.begin(B)
    await expect(next().put([testItem('a')])).rejects.toThrow(/bbbb does not serve/)
    await expect(store.addEncodings([], 5)).rejects.toThrow(/aaaa is not being prepared/)
    await expect(store.bundles.begin({ name: 'third', fingerprint: 'cccc' })).rejects.toThrow(
      /already/,
    )
    expect(store.size).toBe(0)
  })

  it('leaves no encodings after its end and starts from zero again', async () => {
    await store.put(['a', 'b'].map((id) => testItem(id)))
    await store.bundles.begin(B)
    await encodeAll()
    await store.bundles.end()
    expect([store.bundles.next, next().size]).toEqual([null, 0])
    expect(store.get('a')?.embedding).toEqual(testItem('a').embedding)
    await reopen()
    await store.bundles.begin(B)
    expect(next().lag).toBe(2)
  })
})

describe('a promotion', () => {
  beforeEach(async () => {
    await store.put(['a', 'b', 'c'].map((id) => testItem(id)))
    await store.remove(['c'])
    await store.bundles.begin(B)
  })

  it('is refused while the next bundle lags', async () => {
    await expect(store.bundles.promote()).rejects.toThrow(/lags behind/)
    await encodeAll()
    await store.put([testItem('d')])
    await expect(store.bundles.promote()).rejects.toThrow(/lags behind/)
    expect(store.bundles.serving.fingerprint).toBe('aaaa')
  })

  it('swaps the bundles, and a second promotion swaps them back', async () => {
    await encodeAll()
    await store.bundles.promote()
    expect(store.bundles).toMatchObject({
      serving: B,
      next: { name: 'first', fingerprint: 'aaaa' },
    })
    await expect(store.put([testItem('d')])).rejects.toThrow(/does not serve/)
    await next().put([{ ...testItem('d'), ...encodingOf({ id: 'd', position: 5 }) }])
    const former = store.bundles.view('aaaa')
    expect(former.pending(9)).toEqual({ changes: [{ id: 'd', position: 5 }], position: 5 })
    await former.addEncodings([{ ...testItem('d'), position: 5 }], 5)
    await store.bundles.promote()
    expect(store.get('d')?.embedding).toEqual(testItem('d').embedding)
    expect(store.size).toBe(3)
  })

  it('survives reopening with the former or the new setting, but not with a third bundle', async () => {
    await encodeAll()
    await store.bundles.promote()
    await reopen('aaaa', 'first')
    expect([store.fingerprint, store.bundles.serving.name]).toEqual(['bbbb', 'second'])
    expect(store.get('a')).toMatchObject(encodingOf({ id: 'a', position: 1 }))
    await store.bundles.end()
    await reopen('aaaa', 'first')
    expect(store.fingerprint).toBe('bbbb')
    await expect(open('cccc')).rejects.toThrow(StoreMismatchError)
    await reopen('bbbb', 'renamed')
    expect(store.bundles.serving.name).toBe('renamed')
    await expect(open('aaaa')).rejects.toThrow(StoreMismatchError)
  })
})
