/**
 * The LMDB environment of a store: tables in one file, one transaction a change, reads from mapped
 * memory.
 *
 *   items      id → record (see record.ts)
 *   images   id → bytes of the stored image
 *   encodings  id → encoding (see encoding.ts), a table for each bundle
 *   changes    position → id, one entry for each item: where its last change stands in the sequence
 *   about      stamp, position, and up to which position the standby has followed
 *
 * The only importer of lmdb.
 */
import { statSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { open, type Database, type RootDatabase } from 'lmdb'
import { commitFailure } from './commit-failure.js'
import { copyPages, DATA_FILE } from './copy.js'
import type { FirstStamp, Stamp } from './stamp.js'

/** Tables that one process may have opened: the four, and one for each bundle that it has seen. */
const MOST_TABLES = 64

export type Records = Database<Buffer, string>

export class Environment {
  readonly folder: string
  readonly items: Records
  readonly images: Records
  readonly changes: Database<string, number>
  readonly #root: RootDatabase
  readonly #about: Database<number | string | Stamp | FirstStamp, string>
  readonly #encodings = new Map<string, Records>()
  readonly #copies = new Set<Promise<void>>()

  private constructor(root: RootDatabase, folder: string) {
    this.#root = root
    this.folder = folder
    this.items = root.openDB({ name: 'items', encoding: 'binary' })
    this.images = root.openDB({ name: 'pictures', encoding: 'binary' })
    this.changes = root.openDB({ name: 'changes', encoding: 'string' })
    this.#about = root.openDB({ name: 'about', encoding: 'json' })
  }

  /** Makes the folder where it is missing, unless nothing there may be changed. */
  static async open(folder: string, readOnly = false): Promise<Environment> {
    if (!readOnly) await mkdir(folder, { recursive: true })
    // Without overlappingSync a commit is flushed to the disk before its promise resolves. Without
    // event turn batches no promise is left unheard when a commit fails (concurrent callers still
    // share one).
    const how = {
      noSubdir: false,
      overlappingSync: false,
      eventTurnBatching: false,
      maxDbs: MOST_TABLES,
      readOnly,
    }
    return new Environment(open({ path: folder, ...how }), folder)
  }

  /**
   * The table of one bundle; made when it is missing, so not to be called for the first time inside
   * a change.
   */
  encodings(fingerprint: string): Records {
    const known = this.#encodings.get(fingerprint)
    if (known !== undefined) return known
    const table: Records = this.#root.openDB({
      name: `encodings-${fingerprint}`,
      encoding: 'binary',
    })
    this.#encodings.set(fingerprint, table)
    return table
  }

  /** What the store says about itself; undefined in a new one. */
  about<Value extends number | string | Stamp | FirstStamp>(name: string): Value | undefined {
    return this.#about.get(name) as Value | undefined
  }

  /** The number of the last change. */
  get position(): number {
    return this.about<number>('position') ?? 0
  }

  /** The last change that the standby has followed. */
  get followed(): number {
    return this.about<number>('followed') ?? 0
  }

  /** The encodings of the bundle that serves and of the one that stands by. */
  get stampedEncodings(): Records[] {
    const { serving, standby } = this.stamp
    return [serving, standby].flatMap((bundle) =>
      bundle === null ? [] : [this.encodings(bundle.fingerprint)],
    )
  }

  /** Of a store that has been claimed. */
  get stamp(): Stamp {
    return this.about<Stamp>('stamp') as Stamp
  }

  /** Only inside a change; undefined removes. */
  setAbout(name: string, value: number | string | Stamp | undefined): void {
    if (value === undefined) this.#about.removeSync(name)
    else this.#about.putSync(name, value)
  }

  /**
   * Runs `work` in a transaction of its own inside the commit shared with concurrent callers: all
   * of it or none. Durable when it resolves.
   */
  async change<Result>(work: () => Result): Promise<Result> {
    try {
      return await this.#root.childTransaction(work)
    } catch (error) {
      throw await commitFailure(error, this.folder)
    }
  }

  /** Of the file with the pages. */
  bytesOnDisk(): number {
    return statSync(join(this.folder, DATA_FILE)).size
  }

  /** Copies the pages of one moment into the folder, which is made; see copy.ts. */
  async copyTo(folder: string): Promise<void> {
    const copy = copyPages(this.#root, folder)
    this.#copies.add(copy)
    try {
      await copy
    } finally {
      this.#copies.delete(copy)
    }
  }

  /**
   * Waits for copies: they read from the mapped memory in a thread of their own, and cannot be
   * called off.
   */
  async close(): Promise<void> {
    await Promise.allSettled(this.#copies)
    await this.#root.close()
  }
}
