/** The item store on LMDB: the items of an environment, with the encodings of one bundle. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type {
  Bundles,
  Change,
  Copied,
  Encoding,
  Item,
  ItemStore,
  ItemStoreOptions,
  NewItem,
  Payload,
} from './item-store.js'
import { LmdbBundles } from './lmdb-bundles.js'
import { LOCK_FILE } from './copy.js'
import { decodeEmbedding, decodeEncoding, encodeEncoding } from './encoding.js'
import { Environment, type Records } from './environment.js'
import { beginMigration, finishMigration } from './migration.js'
import { decodeRecord, encodeRecord, positionOf, stampPosition } from './record.js'
import {
  claimedStamp,
  isFirst,
  presentStamp,
  StoreMismatchError,
  type FirstStamp,
  type Stamp,
} from './stamp.js'

/** Items that `since` reads at once; between two readings the store may change. */
const REPLAY_STEP = 256

export async function openLmdbItemStore(options: ItemStoreOptions): Promise<ItemStore> {
  const environment = await Environment.open(options.folder, options.readOnly).catch(
    (error: Error) => {
      throw new Error(`The item store in ${options.folder} cannot be opened: ${error.message}.`, {
        cause: error,
      })
    },
  )
  try {
    await claim(environment, options)
    if (options.readOnly !== true)
      await finishMigration(environment, options.onMigration ?? (() => undefined))
    const bundles: Bundles = new LmdbBundles(
      environment,
      (fingerprint) => new LmdbItemStore(environment, bundles, fingerprint),
    )
    return bundles.view(bundles.serving.fingerprint)
  } catch (error) {
    await environment.close()
    throw error
  }
}

/** Stamps a new store, and checks the stamp of an existing one. */
async function claim(environment: Environment, options: ItemStoreOptions): Promise<void> {
  const { folder, fingerprint, name = null, readOnly = false } = options
  const found = environment.about<Stamp | FirstStamp>('stamp')
  const stamp = found === undefined ? null : presentStamp(found, folder)
  const claimed = fingerprint === null ? stamp : claimedStamp(stamp, folder, { name, fingerprint })
  if (claimed === null) throw new StoreMismatchError(`There is no item store in ${folder}.`)
  if (readOnly && found !== undefined && isFirst(found)) {
    throw new StoreMismatchError(
      `The item store in ${folder} has an earlier format, which only a start of the service migrates.`,
    )
  }
  if (readOnly) return
  if (found !== undefined && isFirst(found)) await beginMigration(environment, claimed)
  else if (!isDeepStrictEqual(found, claimed))
    await environment.change(() => environment.setAbout('stamp', claimed))
}

class LmdbItemStore implements ItemStore {
  readonly bundles: Bundles
  readonly fingerprint: string
  readonly #environment: Environment
  readonly #encodings: Records

  constructor(environment: Environment, bundles: Bundles, fingerprint: string) {
    this.#environment = environment
    this.bundles = bundles
    this.fingerprint = fingerprint
    this.#encodings = environment.encodings(fingerprint)
  }

  get identity(): string {
    return this.#environment.stamp.identity
  }

  get position(): number {
    return this.#isServing ? this.#environment.position : this.#environment.followed
  }

  get size(): number {
    return (this.#encodings.getStats() as { entryCount: number }).entryCount
  }

  async put(items: readonly NewItem[]): Promise<{ position: number; replaced: number }> {
    const { items: records, images, changes } = this.#environment
    const now = new Date().toISOString()
    const made = items.map((item) => ({
      item,
      record: encodeRecord(item, now),
      encoding: encodeEncoding(item),
    }))
    return this.#environment.change(() => {
      // The last line of defence: searches never meet embeddings of two bundles.
      if (!this.#isServing)
        throw new Error(`the bundle of fingerprint ${this.fingerprint} does not serve`)
      let { position } = this.#environment
      let replaced = 0
      for (const { item, record, encoding } of made) {
        if (this.#forgetChange(item.id)) replaced += 1
        position += 1
        stampPosition(record, position)
        stampPosition(encoding, position)
        records.putSync(item.id, record)
        images.putSync(item.id, asBuffer(item.image.bytes))
        this.#encodings.putSync(item.id, encoding)
        changes.putSync(position, item.id)
      }
      this.#environment.setAbout('position', position)
      return { position, replaced }
    })
  }

  async remove(ids: readonly string[]): Promise<{ position: number; removed: string[] }> {
    return this.#environment.change(() => {
      const { items: records, images, stampedEncodings } = this.#environment
      const removed = ids.filter((id) => {
        if (!this.#forgetChange(id)) return false
        for (const table of [records, images, ...stampedEncodings]) table.removeSync(id)
        return true
      })
      const position = this.#environment.position + removed.length
      this.#environment.setAbout('position', position)
      return { position, removed }
    })
  }

  get(id: string): Item | undefined {
    const record = this.#environment.items.getBinaryFast(id)
    if (record === undefined) return undefined
    const position = positionOf(record)
    const kept = decodeRecord(record)
    const encoding = this.#encodings.getBinaryFast(id)
    if (encoding === undefined || positionOf(encoding) !== position) return undefined
    return { id, ...kept, ...decodeEncoding(encoding), position }
  }

  getMany(ids: readonly string[]): (Item | undefined)[] {
    return ids.map((id) => this.get(id))
  }

  payload(id: string): Payload | null | undefined {
    const record = this.#environment.items.getBinaryFast(id)
    return record === undefined ? undefined : decodeRecord(record).payload
  }

  embedding(id: string): Float32Array | undefined {
    const encoding = this.#encodings.getBinaryFast(id)
    return encoding === undefined ? undefined : decodeEmbedding(encoding)
  }

  payloadsSince(
    from: number,
    limit: number,
  ): { payloads: { id: string; payload: Payload | null }[]; position: number } {
    const { changes, position } = this.#changesAfter(from, limit)
    // An item that changed meanwhile is there as it is now, and comes again.
    const payloads = changes.flatMap(({ id }) => {
      const payload = this.payload(id)
      return payload === undefined ? [] : [{ id, payload }]
    })
    return { payloads, position }
  }

  image(id: string): Uint8Array | undefined {
    return this.#environment.images.getBinary(id)
  }

  has(id: string): boolean {
    return this.#encodings.doesExist(id)
  }

  list({ after, limit }: { after?: string; limit: number }): Item[] {
    // One more than asked: the range begins with `after` itself where that item still exists.
    const range = after === undefined ? { limit } : { start: after, limit: limit + 1 }
    const ids = [...this.#environment.items.getKeys(range)]
      .filter((id) => id !== after)
      .slice(0, limit)
    return this.getMany(ids).filter((item) => item !== undefined)
  }

  *since(position: number): Iterable<Item> {
    let last = position
    for (;;) {
      const changes = [
        ...this.#environment.changes.getRange({ start: last + 1, limit: REPLAY_STEP }),
      ]
      for (const { key, value: id } of changes) {
        last = key
        const item = this.get(id)
        // An item that changed meanwhile comes again at its new position.
        if (item?.position === key) yield item
      }
      if (changes.length < REPLAY_STEP) return
    }
  }

  behind(limit: number): { changes: Change[]; position: number } {
    return this.#changesAfter(this.position, limit)
  }

  countBehind(): number {
    return this.#environment.changes.getKeysCount({ start: this.position + 1 })
  }

  async follow(encodings: readonly (Change & Encoding)[], position: number): Promise<void> {
    const made = encodings.map((one) => ({ ...one, encoding: encodeEncoding(one) }))
    await this.#environment.change(() => {
      if (this.#environment.stamp.standby?.fingerprint !== this.fingerprint) {
        throw new Error(`the bundle of fingerprint ${this.fingerprint} does not stand by`)
      }
      for (const { id, encoding, position: at } of made) {
        const record = this.#environment.items.getBinaryFast(id)
        if (record === undefined || positionOf(record) !== at) continue
        stampPosition(encoding, at)
        this.#encodings.putSync(id, encoding)
      }
      this.#environment.setAbout('followed', position)
    })
  }

  bytesOnDisk(): number {
    return this.#environment.bytesOnDisk()
  }

  async copyTo(folder: string): Promise<Copied> {
    await this.#environment.copyTo(folder)
    const copied = await openLmdbItemStore({ folder, fingerprint: null, readOnly: true })
    const { size, position, fingerprint } = copied
    await copied.close()
    // Made by looking into the copy; it is no part of it.
    await rm(join(folder, LOCK_FILE), { force: true })
    return { size, position, fingerprint }
  }

  async close(): Promise<void> {
    await this.#environment.close()
  }

  get #isServing(): boolean {
    return this.#environment.stamp.serving.fingerprint === this.fingerprint
  }

  #changesAfter(position: number, limit: number): { changes: Change[]; position: number } {
    const found = this.#environment.changes.getRange({ start: position + 1, limit })
    const changes = [...found].map(({ key, value }) => ({ id: value, position: key }))
    const last = changes.length < limit ? this.#environment.position : changes.at(-1)?.position
    return { changes, position: last ?? position }
  }

  /** Takes an item's last change out of the sequence; false when there is no such item. */
  #forgetChange(id: string): boolean {
    const record = this.#environment.items.getBinaryFast(id)
    if (record === undefined) return false
    this.#environment.changes.removeSync(positionOf(record))
    return true
  }
}

/** The same memory as a Buffer, which is what the binding takes. */
function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
