/**
 * The LMDB environment of a store: tables in one file, one transaction a change, reads from mapped
 * memory.
 *
 *   items      id → record (record.ts)
 *   pictures   id → bytes of the stored image
 *   encodings  id → encoding (encoding.ts), one table for each bundle
 *   changes    position → id, one entry for each item: the number of its last change
 *   about      stamp, position, and `followed`: the last position that the next bundle encoded
 *
 * The only importer of lmdb.
 */
import { statSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { open, type Database, type RootDatabase } from 'lmdb'
import { TandemError } from '../errors.js'
import { storageFailure } from '../files/storage-failure.js'
import { copyPages, DATA_FILE } from './copy.js'
import { DamagedStoreError, verifyPages } from './lmdb-pages.js'
import type { FirstStamp, Stamp } from './stamp.js'

/** Tables that one process may open: four, and one for each bundle that it has seen. */
const MAX_TABLES = 64

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
    // The stored name: data folders of earlier versions have it.
    this.images = root.openDB({ name: 'pictures', encoding: 'binary' })
    this.changes = root.openDB({ name: 'changes', encoding: 'string' })
    this.#about = root.openDB({ name: 'about', encoding: 'json' })
  }

  /**
   * Creates the folder if it is missing, unless `readOnly`.
   * @param isWalked - whether to verify the pages of a large file too
   * @throws DamagedStoreError
   */
  static async open(folder: string, readOnly = false, isWalked = false): Promise<Environment> {
    if (!readOnly) await mkdir(folder, { recursive: true })
    const file = join(folder, DATA_FILE)
    const found = statSync(file, { throwIfNoEntry: false })
    if (found !== undefined && !found.isFile())
      throw new DamagedStoreError(`${DATA_FILE} is not a file`)
    // An empty file is that of a start that was killed.
    if (found !== undefined && found.size > 0) verifyPages(file, isWalked)
    const options = {
      noSubdir: false,
      // A commit is flushed to the disk before its promise resolves.
      overlappingSync: false,
      // With event turn batches a failed commit leaves an unhandled rejection. Concurrent callers
      // share a commit without them too.
      eventTurnBatching: false,
      maxDbs: MAX_TABLES,
      readOnly,
    }
    return new Environment(open({ path: folder, ...options }), folder)
  }

  /** Table of one bundle. Created if missing, so the first call must not be inside a change. */
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

  /** A value of the table `about`; undefined in a new store. */
  about<Value extends number | string | Stamp | FirstStamp>(name: string): Value | undefined {
    return this.#about.get(name) as Value | undefined
  }

  /** Only inside a change; undefined removes. */
  setAbout(name: string, value: number | string | Stamp | undefined): void {
    if (value === undefined) this.#about.removeSync(name)
    else this.#about.putSync(name, value)
  }

  /** Number of the last change. */
  get position(): number {
    return this.about<number>('position') ?? 0
  }

  /** The last position that the next bundle encoded. */
  get nextPosition(): number {
    return this.about<number>('followed') ?? 0
  }

  /** Only inside a change. */
  set nextPosition(position: number | undefined) {
    this.setAbout('followed', position)
  }

  /** Encodings of the serving and of the next bundle. */
  get stampedEncodings(): Records[] {
    const { serving, standby } = this.stamp
    return [serving, standby].flatMap((bundle) =>
      bundle === null ? [] : [this.encodings(bundle.fingerprint)],
    )
  }

  /** Of a store that was opened before. */
  get stamp(): Stamp {
    return this.about<Stamp>('stamp') as Stamp
  }

  /** Only inside a change. */
  set stamp(stamp: Stamp) {
    this.setAbout('stamp', stamp)
  }

  /**
   * Runs `work` in a transaction of its own, all or nothing, inside the commit that concurrent
   * callers share. Durable when it resolves.
   * @throws TandemError storage_full, storage_read_only; what `work` throws
   */
  async change<Result>(work: () => Result): Promise<Result> {
    try {
      return await this.#root.childTransaction(work)
    } catch (error) {
      throw await commitFailure(error, this.folder)
    }
  }

  /** Size of the file with the pages. */
  bytesOnDisk(): number {
    return statSync(join(this.folder, DATA_FILE)).size
  }

  /** Copies the pages of one moment into a new folder; see copy.ts. */
  async copyTo(folder: string): Promise<void> {
    const copy = copyPages(this.#root, folder)
    this.#copies.add(copy)
    try {
      await copy
    } finally {
      this.#copies.delete(copy)
    }
  }

  /** Waits for copies: their thread reads the mapped memory and cannot be cancelled. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#copies)
    await this.#root.close()
  }
}

/**
 * The error to throw for a failed transaction: storage_full or storage_read_only where the disk is
 * the reason.
 *
 * lmdb returns the cause of a failed commit as a promise. Not awaited, it would end the process
 * as an unhandled rejection. A large transaction that fails before its commit has no such promise.
 */
async function commitFailure(error: unknown, folder: string): Promise<unknown> {
  const atCommit = error instanceof Error && 'commitError' in error
  const cause = atCommit
    ? await Promise.resolve(error.commitError).catch((reason: unknown) => reason)
    : error
  const failure = await storageFailure(cause, folder, 'the items')
  return atCommit && !(failure instanceof TandemError)
    ? new Error('The item store could not commit.', { cause })
    : failure
}
