/**
 * The item store on LMDB: four tables in one file, one transaction a change, reads from mapped memory.
 *
 *   items     id → record (see record.ts)
 *   pictures  id → bytes of the stored picture
 *   changes   position → id, one entry for each item: where its last change stands in the sequence
 *   about     stamp, position
 *
 * The only importer of lmdb.
 */
import { randomUUID } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { open, type Database, type RootDatabase } from 'lmdb'
import type { Item, ItemStore, ItemStoreOptions, NewItem } from '../item-store.js'
import { commitFailure } from './commit-failure.js'
import { decodeRecord, encodeRecord, positionOf, stampPosition } from './record.js'
import { checkStamp, STORE_FORMAT, StoreMismatchError, type FoundStamp, type Stamp } from './stamp.js'

/** Items that `since` reads at once; between two readings the store may change. */
const REPLAY_STEP = 256

export async function openLmdbItemStore({ folder, fingerprint }: ItemStoreOptions): Promise<ItemStore> {
  await mkdir(folder, { recursive: true })
  // Without overlappingSync a commit is flushed to the disk before its promise resolves. Without event turn batches no
  // promise is left unheard when a commit fails (concurrent callers still share one).
  const root = open({ path: folder, noSubdir: false, overlappingSync: false, eventTurnBatching: false })
  const store = new LmdbItemStore(root, folder)
  try {
    await store.claim(fingerprint)
  } catch (error) {
    await root.close()
    throw error
  }
  return store
}

class LmdbItemStore implements ItemStore {
  readonly #root: RootDatabase
  readonly #folder: string
  readonly #items: Database<Buffer, string>
  readonly #pictures: Database<Buffer, string>
  readonly #changes: Database<string, number>
  readonly #about: Database<number | FoundStamp, string>

  constructor(root: RootDatabase, folder: string) {
    this.#root = root
    this.#folder = folder
    this.#items = root.openDB({ name: 'items', encoding: 'binary' })
    this.#pictures = root.openDB({ name: 'pictures', encoding: 'binary' })
    this.#changes = root.openDB({ name: 'changes', encoding: 'string' })
    this.#about = root.openDB({ name: 'about', encoding: 'json' })
  }

  /** Stamps a new store, checks the stamp of an existing one, and gives an identity to one that has none. */
  async claim(fingerprint: string | null): Promise<void> {
    const found = this.#about.get('stamp') as FoundStamp | undefined
    if (found !== undefined) checkStamp(found, this.#folder, fingerprint)
    else if (fingerprint === null) throw new StoreMismatchError(`There is no item store in ${this.#folder}.`)
    if (found?.identity !== undefined) return
    const stamp = found ?? { format: STORE_FORMAT, fingerprint: fingerprint as string }
    await this.#about.put('stamp', { ...stamp, identity: randomUUID() })
  }

  get fingerprint(): string {
    return this.#stamp.fingerprint
  }

  get identity(): string {
    return this.#stamp.identity
  }

  get position(): number {
    return (this.#about.get('position') as number | undefined) ?? 0
  }

  get size(): number {
    return (this.#items.getStats() as { entryCount: number }).entryCount
  }

  async put(items: readonly NewItem[]): Promise<{ position: number; replaced: number }> {
    const now = new Date().toISOString()
    const records = items.map((item) => ({ item, record: encodeRecord(item, now) }))
    return this.#change(() => {
      let { position } = this
      let replaced = 0
      for (const { item, record } of records) {
        if (this.#forgetChange(item.id)) replaced += 1
        position += 1
        stampPosition(record, position)
        this.#items.putSync(item.id, record)
        this.#pictures.putSync(item.id, asBuffer(item.picture.bytes))
        this.#changes.putSync(position, item.id)
      }
      this.#about.putSync('position', position)
      return { position, replaced }
    })
  }

  async remove(ids: readonly string[]): Promise<{ position: number; removed: string[] }> {
    return this.#change(() => {
      const removed = ids.filter((id) => {
        if (!this.#forgetChange(id)) return false
        this.#items.removeSync(id)
        this.#pictures.removeSync(id)
        return true
      })
      const position = this.position + removed.length
      this.#about.putSync('position', position)
      return { position, removed }
    })
  }

  get(id: string): Item | undefined {
    const record = this.#items.getBinaryFast(id)
    return record === undefined ? undefined : decodeRecord(id, record)
  }

  getMany(ids: readonly string[]): (Item | undefined)[] {
    return ids.map((id) => this.get(id))
  }

  picture(id: string): Uint8Array | undefined {
    return this.#pictures.getBinary(id)
  }

  has(id: string): boolean {
    return this.#items.doesExist(id)
  }

  list({ after, limit }: { after?: string; limit: number }): Item[] {
    // One more than asked: the range begins with `after` itself where that item still exists.
    const range = after === undefined ? { limit } : { start: after, limit: limit + 1 }
    const ids = [...this.#items.getKeys(range)].filter((id) => id !== after).slice(0, limit)
    return this.getMany(ids).filter((item) => item !== undefined)
  }

  *since(position: number): Iterable<Item> {
    let last = position
    for (;;) {
      const changes = [...this.#changes.getRange({ start: last + 1, limit: REPLAY_STEP })]
      for (const { key, value: id } of changes) {
        last = key
        const item = this.get(id)
        // An item that changed meanwhile comes again at its new position.
        if (item?.position === key) yield item
      }
      if (changes.length < REPLAY_STEP) return
    }
  }

  async close(): Promise<void> {
    await this.#root.close()
  }

  get #stamp(): Stamp {
    return this.#about.get('stamp') as Stamp
  }

  /** Takes an item's last change out of the sequence; false when there is no such item. */
  #forgetChange(id: string): boolean {
    const record = this.#items.getBinaryFast(id)
    if (record === undefined) return false
    this.#changes.removeSync(positionOf(record))
    return true
  }

  /** Runs `work` in a transaction of its own inside the commit shared with concurrent callers: all of it or none. */
  async #change<Result>(work: () => Result): Promise<Result> {
    try {
      return await this.#root.childTransaction(work)
    } catch (error) {
      throw await commitFailure(error, this.#folder)
    }
  }
}

/** The same memory as a Buffer, which is what the binding takes. */
function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
