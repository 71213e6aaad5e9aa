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
import { testItem } from '../support/test-item.js'

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

/** @returns a stored item in the form in which it was put */
function asPut(item: Item | undefined, source: ItemStore): Omit<NewItem, 'addedAt'> | undefined {
  if (item === undefined) return undefined
  const { id, payload, embedding, imageTokens, image } = item
  const bytes = Uint8Array.from(source.image(id) ?? [])
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
  it('return every part of an item, also after reopening', async () => {
    await store.put([testItem('beach'), testItem('dog')])
    expect(asPut(store.get('dog'), store)).toEqual(testItem('dog'))
    await reopen()
    expect(asPut(store.get('beach'), store)).toEqual(testItem('beach'))
    expect(store.size).toBe(2)
    expect(Date.parse(store.get('beach')?.addedAt ?? '')).toBeGreaterThan(Date.now() - 60_000)
  })

  it('accept an item without a payload and keep a time that the caller sets', async () => {
    await store.put([{ ...testItem('bare'), payload: null, addedAt: '2001-02-03T04:05:06.000Z' }])
    expect(store.get('bare')).toMatchObject({ payload: null, addedAt: '2001-02-03T04:05:06.000Z' })
  })

  it('replace an item of the same id and count the replacement', async () => {
    expect(await store.put([testItem('dog'), testItem('cat')])).toEqual({
      position: 2,
      replaced: 0,
    })
    expect(await store.put([testItem('dog', 7)])).toEqual({ position: 3, replaced: 1 })
    expect(store.size).toBe(2)
    expect(asPut(store.get('dog'), store)).toEqual(testItem('dog', 7))
    expect(store.get('dog')?.position).toBe(3)
  })

  it('keep the last of two items with one id in a batch', async () => {
    await store.put([testItem('dog', 1), testItem('dog', 2)])
    expect(store.size).toBe(1)
    expect(asPut(store.get('dog'), store)).toEqual(testItem('dog', 2))
  })

  it('accept ids of 256 characters of any script', async () => {
    const ids = ['海'.repeat(256), '🏖'.repeat(128), '.', 'a/b c@d:e', '__proto__']
    await store.put(ids.map((id) => testItem(id)))
    await reopen()
    expect(store.getMany(ids).map((item) => item?.id)).toEqual(ids)
  })

  it('return items that share no memory', async () => {
    await store.put([testItem('a'), testItem('b')])
    const first = store.get('a')
    const [, second] = store.getMany(['a', 'b'])
    second?.embedding.fill(0)
    second?.imageTokens.fill(0)
    expect(first?.embedding).toEqual(testItem('a').embedding)
    expect(store.get('b')?.imageTokens).toEqual(testItem('b').imageTokens)
  })

  it('return undefined for a missing item', () => {
    expect(store.get('missing')).toBeUndefined()
    expect(store.image('missing')).toBeUndefined()
    expect(store.has('missing')).toBe(false)
    expect(store.getMany(['missing'])).toEqual([undefined])
  })

  it('assign a different position to each concurrent caller', async () => {
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, i) => store.put([testItem(`item ${i}`)])),
    )
    const positions = results.map(({ position }) => position).sort((a, b) => a - b)
    expect(positions).toEqual(Array.from({ length: 20 }, (_, i) => i + 1))
    expect(store.position).toBe(20)
  })

  it('store no item of a batch in which one item cannot be stored', async () => {
    const tooLong = { ...testItem('bad'), id: 'x'.repeat(5000) }
    await expect(store.put([testItem('good'), tooLong])).rejects.toThrow()
    await store.put([testItem('later')])
    expect(store.has('good')).toBe(false)
    expect(store.position).toBe(1)
    expect([...store.since(0)].map(({ id }) => id)).toEqual(['later'])
  })
})

describe('remove', () => {
  it('removes existing items and returns their ids', async () => {
    await store.put([testItem('a'), testItem('b')])
    expect(await store.remove(['a', 'missing'])).toEqual({ position: 3, removed: ['a'] })
    expect(store.has('a')).toBe(false)
    expect(store.image('a')).toBeUndefined()
    expect(store.size).toBe(1)
  })

  it('does not change the position when no item exists', async () => {
    await store.put([testItem('a')])
    expect(await store.remove(['missing'])).toEqual({ position: 1, removed: [] })
  })
})

describe('list', () => {
  it('returns each id once over several pages', async () => {
    const ids = Array.from({ length: 25 }, (_, i) => `photo ${String(i).padStart(2, '0')}`)
    await store.put([...ids].reverse().map((id) => testItem(id)))
    const listed: string[] = []
    for (
      let page = store.list({ limit: 10 });
      page.length > 0;
      page = store.list({ after: listed.at(-1) ?? '', limit: 10 })
    ) {
      listed.push(...page.map(({ id }) => id))
    }
    expect(listed).toEqual(ids)
  })

  it('continues after an id that was removed', async () => {
    await store.put(['a', 'b', 'c'].map((id) => testItem(id)))
    await store.remove(['b'])
    expect(store.list({ after: 'b', limit: 1 }).map(({ id }) => id)).toEqual(['c'])
  })
})

describe('since', () => {
  it('returns the last change of each item in the order of the changes', async () => {
    await store.put(['a', 'b', 'c'].map((id) => testItem(id)))
    await store.put([testItem('a', 1)])
    await store.remove(['b'])
    expect([...store.since(0)].map(({ id, position }) => [id, position])).toEqual([
      ['c', 3],
      ['a', 4],
    ])
    expect([...store.since(3)].map(({ id }) => id)).toEqual(['a'])
    expect([...store.since(store.position)]).toEqual([])
  })

  it('returns every item when there are more than one read takes', async () => {
    const ids = Array.from({ length: 600 }, (_, i) => `item ${i}`)
    await store.put(
      ids.map((id) => ({
        ...testItem(id),
        image: { ...testItem(id).image, bytes: new Uint8Array(1) },
      })),
    )
    expect([...store.since(0)].map(({ id }) => id)).toEqual(ids)
  })
})

describe('payloads', () => {
  it('are read without the other parts of the item', async () => {
    await store.put([testItem('a'), { ...testItem('b'), payload: null }])
    expect(store.payload('a')).toEqual(testItem('a').payload)
    expect([store.payload('b'), store.payload('missing')]).toEqual([null, undefined])
  })

  it('are read in the order of their last changes, in parts, up to the last change', async () => {
    await store.put(['a', 'b', 'c', 'd'].map((id) => testItem(id)))
    await store.put([testItem('a', 1)])
    expect(store.payloadsSince(0, 2)).toEqual({
      payloads: ['b', 'c'].map((id) => ({ id, payload: testItem(id).payload })),
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
  it('refuses another bundle with an error that names both bundles and the command to run', async () => {
    const opening = openItemStore({ folder, fingerprint: 'bbbb' })
    await expect(opening).rejects.toThrow(StoreMismatchError)
    await expect(opening).rejects.toThrow(/aaaa.*bbbb.*tandem rebuild/s)
  })

  it('has a unique identity that stays the same after reopening', async () => {
    const { identity } = store
    expect(identity).toMatch(/^[0-9a-f-]{36}$/)
    await reopen()
    expect(store.identity).toBe(identity)
    const other = await openItemStore({ folder: join(folder, 'other'), fingerprint: 'aaaa' })
    expect(other.identity).not.toBe(identity)
    await other.close()
  })

  it('is not checked for a rebuild, which opens only an existing store', async () => {
    await reopen(null)
    expect(store.fingerprint).toBe('aaaa')
    await expect(
      openItemStore({ folder: join(folder, 'empty'), fingerprint: null }),
    ).rejects.toThrow(/no item store/)
  })
})

describe('a crash', { timeout: 120_000 }, () => {
  it('loses no acknowledged item and leaves no partial item', async () => {
    const crashedFolder = join(folder, 'crashed')
    const program = fileURLToPath(new URL('./endless-writer.ts', import.meta.url))
    const child = spawn(process.execPath, ['--import', 'tsx', program, crashedFolder], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const ended = new Promise((resolve) => child.once('exit', (_, signal) => resolve(signal)))
    const acknowledged: string[] = []
    for await (const id of createInterface({ input: child.stdout })) {
      acknowledged.push(id)
      if (acknowledged.length === 200) child.kill('SIGKILL')
    }
    expect(await ended).toBe('SIGKILL')

    const reopened = await openItemStore({ folder: crashedFolder, fingerprint: 'crash-test' })
    try {
      expect(acknowledged.filter((id) => !reopened.has(id))).toEqual([])
      const items = [...reopened.since(0)]
      expect(items).toHaveLength(reopened.size)
      for (const item of items) expect(asPut(item, reopened)).toEqual(testItem(item.id))
      // A batch was stored completely or not at all.
      const partner = (id: string): string =>
        id.replace(/[ab]$/, (half) => (half === 'a' ? 'b' : 'a'))
      expect(items.filter(({ id }) => !reopened.has(partner(id)))).toEqual([])
    } finally {
      await reopened.close()
    }
  })
})
