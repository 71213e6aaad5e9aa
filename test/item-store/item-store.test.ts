import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Item, ItemStore, NewItem } from '../../src/item-store/item-store.js'
import { StoreMismatchError } from '../../src/item-store/stamp.js'
import { openItemStore } from '../../src/item-store/open.js'
import { madeItem } from '../support/made-item.js'

let folder: string
let store: ItemStore

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-store-'))
  store = await openItemStore({ folder, fingerprint: 'aaaa' })
})

afterEach(async () => {
  await store.close()
  await rm(folder, { recursive: true, force: true })
})

async function reopen(fingerprint: string | null = 'aaaa'): Promise<void> {
  await store.close()
  store = await openItemStore({ folder, fingerprint })
}

/** The parts of `found` that were given, in the shape of what was given. */
function given(found: Item | undefined, from: ItemStore): Omit<NewItem, 'addedAt'> | undefined {
  if (found === undefined) return undefined
  const { id, payload, embedding, imageTokens, image } = found
  const bytes = Uint8Array.from(from.image(id) ?? [])
  expect(image.size).toBe(bytes.byteLength)
  return {
    id,
    payload,
    embedding,
    imageTokens,
    image: { bytes, mime: image.mime, width: image.width, height: image.height },
  }
}

describe('put and get', () => {
  it('gives back every part of an item, now and after reopening', async () => {
    await store.put([madeItem('beach'), madeItem('dog')])
    expect(given(store.get('dog'), store)).toEqual(madeItem('dog'))
    await reopen()
    expect(given(store.get('beach'), store)).toEqual(madeItem('beach'))
    expect(store.size).toBe(2)
    expect(Date.parse(store.get('beach')?.addedAt ?? '')).toBeGreaterThan(Date.now() - 60_000)
  })

  it('takes an item without a payload, and keeps a given time', async () => {
    await store.put([{ ...madeItem('bare'), payload: null, addedAt: '2001-02-03T04:05:06.000Z' }])
    expect(store.get('bare')).toMatchObject({ payload: null, addedAt: '2001-02-03T04:05:06.000Z' })
  })

  it('replaces an item of the same id and counts it', async () => {
    expect(await store.put([madeItem('dog'), madeItem('cat')])).toEqual({
      position: 2,
      replaced: 0,
    })
    expect(await store.put([madeItem('dog', 7)])).toEqual({ position: 3, replaced: 1 })
    expect(store.size).toBe(2)
    expect(given(store.get('dog'), store)).toEqual(madeItem('dog', 7))
    expect(store.get('dog')?.position).toBe(3)
  })

  it('keeps the last of two items of one id in a batch', async () => {
    await store.put([madeItem('dog', 1), madeItem('dog', 2)])
    expect(store.size).toBe(1)
    expect(given(store.get('dog'), store)).toEqual(madeItem('dog', 2))
  })

  it('takes ids of 256 letters of any script', async () => {
    const ids = ['海'.repeat(256), '🏖'.repeat(128), '.', 'a/b c@d:e', '__proto__']
    await store.put(ids.map((id) => madeItem(id)))
    await reopen()
    expect(store.getMany(ids).map((item) => item?.id)).toEqual(ids)
  })

  it('gives items that share no memory with one another', async () => {
    await store.put([madeItem('a'), madeItem('b')])
    const first = store.get('a')
    const [, second] = store.getMany(['a', 'b'])
    second?.embedding.fill(0)
    second?.imageTokens.fill(0)
    expect(first?.embedding).toEqual(madeItem('a').embedding)
    expect(store.get('b')?.imageTokens).toEqual(madeItem('b').imageTokens)
  })

  it('answers undefined for what is not there', () => {
    expect(store.get('nothing')).toBeUndefined()
    expect(store.image('nothing')).toBeUndefined()
    expect(store.has('nothing')).toBe(false)
    expect(store.getMany(['nothing'])).toEqual([undefined])
  })

  it('gives concurrent callers positions of their own', async () => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) => store.put([madeItem(`item ${i}`)])),
    )
    const positions = answers.map(({ position }) => position).sort((a, b) => a - b)
    expect(positions).toEqual(Array.from({ length: 20 }, (_, i) => i + 1))
    expect(store.position).toBe(20)
  })

  it('stores none of a batch of which one item cannot be stored', async () => {
    const unstorable = { ...madeItem('bad'), id: 'x'.repeat(5000) }
    await expect(store.put([madeItem('good'), unstorable])).rejects.toThrow()
    await store.put([madeItem('later')])
    expect(store.has('good')).toBe(false)
    expect(store.position).toBe(1)
    expect([...store.since(0)].map(({ id }) => id)).toEqual(['later'])
  })
})

describe('remove', () => {
  it('removes what is there and says what it was', async () => {
    await store.put([madeItem('a'), madeItem('b')])
    expect(await store.remove(['a', 'nothing'])).toEqual({ position: 3, removed: ['a'] })
    expect(store.has('a')).toBe(false)
    expect(store.image('a')).toBeUndefined()
    expect(store.size).toBe(1)
  })

  it('leaves the position alone when nothing was there', async () => {
    await store.put([madeItem('a')])
    expect(await store.remove(['nothing'])).toEqual({ position: 1, removed: [] })
  })
})

describe('list', () => {
  it('pages by id without a gap or a repeat', async () => {
    const ids = Array.from({ length: 25 }, (_, i) => `photo ${String(i).padStart(2, '0')}`)
    await store.put([...ids].reverse().map((id) => madeItem(id)))
    const seen: string[] = []
    for (
      let page = store.list({ limit: 10 });
      page.length > 0;
      page = store.list({ after: seen.at(-1) ?? '', limit: 10 })
    ) {
      seen.push(...page.map(({ id }) => id))
    }
    expect(seen).toEqual(ids)
  })

  it('goes on after an id that has been removed', async () => {
    await store.put(['a', 'b', 'c'].map((id) => madeItem(id)))
    await store.remove(['b'])
    expect(store.list({ after: 'b', limit: 1 }).map(({ id }) => id)).toEqual(['c'])
  })
})

describe('since', () => {
  it('replays the last change of each item, in order', async () => {
    await store.put(['a', 'b', 'c'].map((id) => madeItem(id)))
    await store.put([madeItem('a', 1)])
    await store.remove(['b'])
    expect([...store.since(0)].map(({ id, position }) => [id, position])).toEqual([
      ['c', 3],
      ['a', 4],
    ])
    expect([...store.since(3)].map(({ id }) => id)).toEqual(['a'])
    expect([...store.since(store.position)]).toEqual([])
  })

  it('passes the reading step without a gap', async () => {
    const ids = Array.from({ length: 600 }, (_, i) => `item ${i}`)
    await store.put(
      ids.map((id) => ({
        ...madeItem(id),
        image: { ...madeItem(id).image, bytes: new Uint8Array(1) },
      })),
    )
    expect([...store.since(0)].map(({ id }) => id)).toEqual(ids)
  })
})

describe('payloads', () => {
  it('are read without the rest of the item', async () => {
    await store.put([madeItem('a'), { ...madeItem('b'), payload: null }])
    expect(store.payload('a')).toEqual(madeItem('a').payload)
    expect([store.payload('b'), store.payload('nobody')]).toEqual([null, undefined])
  })

  it('come in the order of their last changes, a part at a time, up to the last change', async () => {
    await store.put(['a', 'b', 'c', 'd'].map((id) => madeItem(id)))
    await store.put([madeItem('a', 1)])
    expect(store.payloadsSince(0, 2)).toEqual({
      payloads: ['b', 'c'].map((id) => ({ id, payload: madeItem(id).payload })),
      position: 3,
    })
    expect(store.payloadsSince(3, 10)).toMatchObject({
      payloads: [{ id: 'd' }, { id: 'a', payload: { version: 1 } }],
      position: 5,
    })
    await store.remove(['d', 'a'])
    expect(store.payloadsSince(3, 10)).toEqual({ payloads: [], position: 7 })
    expect(store.payloadsSince(7, 10)).toEqual({ payloads: [], position: 7 })
  })
})

describe('the stamp', () => {
  it('refuses a store of another bundle, naming both and the command that helps', async () => {
    const refusal = openItemStore({ folder, fingerprint: 'bbbb' })
    await expect(refusal).rejects.toThrow(StoreMismatchError)
    await expect(refusal).rejects.toThrow(/aaaa.*bbbb.*tandem rebuild/s)
  })

  it('is an identity of its own, the same after reopening', async () => {
    const { identity } = store
    expect(identity).toMatch(/^[0-9a-f-]{36}$/)
    await reopen()
    expect(store.identity).toBe(identity)
    const other = await openItemStore({ folder: join(folder, 'other'), fingerprint: 'aaaa' })
    expect(other.identity).not.toBe(identity)
    await other.close()
  })

  it('opens any existing store for a rebuild, but makes none', async () => {
    await reopen(null)
    expect(store.fingerprint).toBe('aaaa')
    await expect(
      openItemStore({ folder: join(folder, 'empty'), fingerprint: null }),
    ).rejects.toThrow(/no item store/)
  })
})

describe('a crash', { timeout: 120_000 }, () => {
  it('loses no acknowledged item and leaves no half of one', async () => {
    const crashed = join(folder, 'crashed')
    const program = fileURLToPath(new URL('./endless-writer.ts', import.meta.url))
    const child = spawn(process.execPath, ['--import', 'tsx', program, crashed], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const ended = new Promise((resolve) => child.once('exit', (_, signal) => resolve(signal)))
    const acknowledged: string[] = []
    for await (const id of createInterface({ input: child.stdout })) {
      acknowledged.push(id)
      if (acknowledged.length === 200) child.kill('SIGKILL')
    }
    expect(await ended).toBe('SIGKILL')

    const reopened = await openItemStore({ folder: crashed, fingerprint: 'crash-test' })
    try {
      expect(acknowledged.filter((id) => !reopened.has(id))).toEqual([])
      const found = [...reopened.since(0)]
      expect(found).toHaveLength(reopened.size)
      for (const item of found) expect(given(item, reopened)).toEqual(madeItem(item.id))
      // A batch is all there or not at all.
      const partner = (id: string): string =>
        id.replace(/[ab]$/, (half) => (half === 'a' ? 'b' : 'a'))
      expect(found.filter(({ id }) => !reopened.has(partner(id)))).toEqual([])
    } finally {
      await reopened.close()
    }
  })
})
