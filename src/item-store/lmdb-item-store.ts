/** The item store on LMDB: the items of an environment, with the encodings of one bundle. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { TandemError } from '../errors.js'
import { LOCK_FILE } from './copy.js'
import { digestOf } from './digest.js'
import { decodeEmbedding, decodeEncoding, encodeEncoding } from './encoding.js'
import { Environment, type Records } from './environment.js'
import type {
  Bundles,
  Change,
  Copied,
  Encoding,
  Item,
  ItemStore,
  NewItem,
  Payload,
  Verification,
} from './item-store.js'
import { decodeRecord, encodeRecord, imageDigestIn, positionOf, stampPosition } from './record.js'
import { verifyItems } from './verify.js'

/** Items that `since` reads at once; the store may change between two reads. */
const REPLAY_STEP = 256

export class LmdbItemStore implements ItemStore {
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
    return this.#isServing ? this.#environment.position : this.#environment.nextPosition
  }

  get size(): number {
    return sizeOf(this.#encodings)
  }

  async put(items: readonly NewItem[]): Promise<{ position: number; replaced: number }> {
    const { items: records, images, changes } = this.#environment
    const now = new Date().toISOString()
    const entries = items.map((item) => ({
      item,
      record: encodeRecord(item, now),
      encoding: encodeEncoding(item.id, item),
    }))
    return this.#environment.change(() => {
      // Embeddings of two bundles must not meet in one index.
      if (!this.#isServing)
        throw new Error(`the bundle of fingerprint ${this.fingerprint} does not serve`)
      let { position } = this.#environment
      let replaced = 0
      for (const { item, record, encoding } of entries) {
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
    // Decoded before the next read, which reuses the buffer of the record.
    const content = decodeRecord(record)
    const encoding = this.#encodings.getBinaryFast(id)
    if (encoding === undefined || positionOf(encoding) !== position) return undefined
    return { id, ...content, ...decodeEncoding(encoding), position }
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
    // An item that has changed since is read in its present state, and again at its position.
    const payloads = changes.flatMap(({ id }) => {
      const payload = this.payload(id)
      return payload === undefined ? [] : [{ id, payload }]
    })
    return { payloads, position }
  }

  image(id: string): Uint8Array | undefined {
    const record = this.#environment.items.getBinaryFast(id)
    const digest = record === undefined ? null : imageDigestIn(record)
    const bytes = this.#environment.images.getBinary(id)
    if (bytes === undefined || digest === null || digestOf(id, bytes).equals(digest)) return bytes
    throw new TandemError('item_damaged', { id })
  }

  verify(): Verification {
    return verifyItems(this.#environment)
  }

  has(id: string): boolean {
    return this.#encodings.doesExist(id)
  }

  list({ after, limit }: { after?: string; limit: number }): Item[] {
    // One more than `limit`: the range begins with `after` if that item still exists.
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
        // An item that has changed since comes again at its new position.
        if (item?.position === key) yield item
      }
      if (changes.length < REPLAY_STEP) return
    }
  }

  pending(limit: number): { changes: Change[]; position: number } {
    return this.#changesAfter(this.position, limit)
  }

  get lag(): number {
    return this.#environment.changes.getKeysCount({ start: this.position + 1 })
  }

  async addEncodings(encodings: readonly (Change & Encoding)[], position: number): Promise<void> {
    const entries = encodings.map((entry) => ({
      ...entry,
      encoding: encodeEncoding(entry.id, entry),
    }))
    await this.#environment.change(() => {
      if (this.#environment.stamp.standby?.fingerprint !== this.fingerprint) {
        throw new Error(`the bundle of fingerprint ${this.fingerprint} is not being prepared`)
      }
      for (const { id, encoding, position: at } of entries) {
        const record = this.#environment.items.getBinaryFast(id)
        if (record === undefined || positionOf(record) !== at) continue
        stampPosition(encoding, at)
        this.#encodings.putSync(id, encoding)
      }
      this.#environment.nextPosition = position
    })
  }

  bytesOnDisk(): number {
    return this.#environment.bytesOnDisk()
  }

  async copyTo(folder: string): Promise<Copied> {
    await this.#environment.copyTo(folder)
    const copy = await Environment.open(folder, true)
    const { position, stamp } = copy
    const { fingerprint } = stamp.serving
    const size = sizeOf(copy.encodings(fingerprint))
    await copy.close()
    // Reading the copy creates the lock file, which is no part of it.
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
    const range = this.#environment.changes.getRange({ start: position + 1, limit })
    const changes = [...range].map(({ key, value }) => ({ id: value, position: key }))
    const last = changes.length < limit ? this.#environment.position : changes.at(-1)?.position
    return { changes, position: last ?? position }
  }

  /** Removes an item's last change from the sequence. @returns whether the item exists */
  #forgetChange(id: string): boolean {
    const record = this.#environment.items.getBinaryFast(id)
    if (record === undefined) return false
    this.#environment.changes.removeSync(positionOf(record))
    return true
  }
}

function sizeOf(table: Records): number {
  return (table.getStats() as { entryCount: number }).entryCount
}

/** The same memory as a Buffer, as the binding requires. */
function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
