/** Two bundles in one store: what a standby follows, and what a switch and an end leave. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  openItemStore,
  StoreMismatchError,
  type Change,
  type Encoding,
  type ItemStore,
} from '../../src/item-store/item-store.js'
import { madeItem } from '../support/made-item.js'

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
const standby = (): ItemStore => store.bundles.view('bbbb')

/** As the second bundle encodes: other lengths, and everything follows from id and position. */
const madeOf = ({ id, position }: Change): Change & Encoding => ({
  id,
  position,
  embedding: Float32Array.from({ length: 4 }, (_, at) => position + at),
  imageTokens: new Int8Array(5).fill(id.length),
})

/** Follows all that is behind, `step` changes at a time. */
async function followAll(step = 3): Promise<number> {
  let steps = 0
  for (;;) {
    const { changes, position } = standby().behind(step)
    await standby().follow(changes.map(madeOf), position)
    steps += 1
    if (changes.length < step) return steps
  }
}

describe('a standby', () => {
  it('follows every item, in the order of the changes, and goes on after reopening', async () => {
    await store.put(['a', 'b', 'c', 'd'].map((id) => madeItem(id)))
    await store.bundles.begin(B)
    expect(store.bundles).toMatchObject({
      serving: { name: 'first', fingerprint: 'aaaa' },
      standby: B,
    })
    expect([standby().size, standby().position, standby().countBehind()]).toEqual([0, 0, 4])
    const { changes, position } = standby().behind(3)
    expect(changes).toEqual([1, 2, 3].map((at) => ({ id: 'abc'[at - 1], position: at })))
    await standby().follow(changes.map(madeOf), position)
    await reopen()
    expect([standby().size, standby().position, standby().countBehind()]).toEqual([3, 3, 1])
    await followAll()
    expect(standby().get('d')).toMatchObject({
      payload: madeItem('d').payload,
      ...madeOf({ id: 'd', position: 4 }),
    })
    expect([...standby().since(0)].map(({ id }) => id)).toEqual(['a', 'b', 'c', 'd'])
    expect(store.get('d')?.embedding).toEqual(madeItem('d').embedding)
  })

  it('does not show an item that was replaced since, nor keep what was made of its former image', async () => {
    await store.put(['a', 'b'].map((id) => madeItem(id)))
    await store.bundles.begin(B)
    const early = standby().behind(10)
    await followAll()
    await store.put([madeItem('a', 1)])
    expect(standby().get('a')).toBeUndefined()
    expect(
      standby()
        .getMany(['a', 'b'])
        .map((item) => item?.id),
    ).toEqual([undefined, 'b'])
    expect(standby().countBehind()).toBe(1)
    await standby().follow(early.changes.map(madeOf), early.position)
    expect(standby().get('a')).toBeUndefined()
    await followAll()
    expect(standby().get('a')).toMatchObject(madeOf({ id: 'a', position: 3 }))
  })

  it('loses an item with the serving bundle, and does not get it back from a late encoding', async () => {
    await store.put(['a', 'b'].map((id) => madeItem(id)))
    await store.bundles.begin(B)
    const late = standby().behind(10)
    await followAll()
    await store.remove(['a'])
    expect([standby().has('a'), standby().size]).toEqual([false, 1])
    await standby().follow(late.changes.map(madeOf), late.position)
    expect([standby().has('a'), standby().size]).toEqual([false, 1])
  })

  it('takes no items, and a bundle that serves follows nothing', async () => {
    await store.bundles.begin(B)
    await expect(standby().put([madeItem('a')])).rejects.toThrow(/bbbb does not serve/)
    await expect(store.follow([], 5)).rejects.toThrow(/aaaa does not stand by/)
    await expect(store.bundles.begin({ name: 'third', fingerprint: 'cccc' })).rejects.toThrow(
      /already/,
    )
    expect(store.size).toBe(0)
  })

  it('leaves nothing when it is ended, and begins anew', async () => {
    await store.put(['a', 'b'].map((id) => madeItem(id)))
    await store.bundles.begin(B)
    await followAll()
    await store.bundles.end()
    expect([store.bundles.standby, standby().size]).toEqual([null, 0])
    expect(store.get('a')?.embedding).toEqual(madeItem('a').embedding)
    await reopen()
    await store.bundles.begin(B)
    expect(standby().countBehind()).toBe(2)
  })
})

describe('a switch', () => {
  beforeEach(async () => {
    await store.put(['a', 'b', 'c'].map((id) => madeItem(id)))
    await store.remove(['c'])
    await store.bundles.begin(B)
  })

  it('is refused until the standby is level', async () => {
    await expect(store.bundles.switch()).rejects.toThrow(/not level/)
    await followAll()
    await store.put([madeItem('d')])
    await expect(store.bundles.switch()).rejects.toThrow(/not level/)
    expect(store.bundles.serving.fingerprint).toBe('aaaa')
  })

  it('changes the places, and back', async () => {
    await followAll()
    await store.bundles.switch()
    expect(store.bundles).toMatchObject({
      serving: B,
      standby: { name: 'first', fingerprint: 'aaaa' },
    })
    await expect(store.put([madeItem('d')])).rejects.toThrow(/does not serve/)
    await standby().put([{ ...madeItem('d'), ...madeOf({ id: 'd', position: 5 }) }])
    const former = store.bundles.view('aaaa')
    expect(former.behind(9)).toEqual({ changes: [{ id: 'd', position: 5 }], position: 5 })
    await former.follow([{ ...madeItem('d'), position: 5 }], 5)
    await store.bundles.switch()
    expect(store.get('d')?.embedding).toEqual(madeItem('d').embedding)
    expect(store.size).toBe(3)
  })

  it('holds after reopening with the former setting, or with the new one, but not with a third', async () => {
    await followAll()
    await store.bundles.switch()
    await reopen('aaaa', 'first')
    expect([store.fingerprint, store.bundles.serving.name]).toEqual(['bbbb', 'second'])
    expect(store.get('a')).toMatchObject(madeOf({ id: 'a', position: 1 }))
    await store.bundles.end()
    await reopen('aaaa', 'first')
    expect(store.fingerprint).toBe('bbbb')
    await expect(open('cccc')).rejects.toThrow(StoreMismatchError)
    await reopen('bbbb', 'renamed')
    expect(store.bundles.serving.name).toBe('renamed')
    await expect(open('aaaa')).rejects.toThrow(StoreMismatchError)
  })
})
