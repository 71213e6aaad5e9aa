/**
 * What a data folder remembers of its migration: with which collection, and how new the newest item
 * was that went over. So a second run knows what the first one brought, and leaves alone what
 * somebody else has written since.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { replaceFile } from '../../files/flush.js'

interface Written {
  /** The identity of the item store. */
  store: string
  /** The collection in Milvus: address, database and name. */
  collection: string
  /** ISO 8601, UTC; empty before the first item. */
  newest: string
}

const FILE = 'migration.json'

export class MigrationMark {
  readonly #path: string
  readonly #written: Written
  /** Whether these two have been in a migration before. */
  readonly isKnown: boolean

  private constructor(path: string, written: Written, isKnown: boolean) {
    this.#path = path
    this.#written = written
    this.isKnown = isKnown
  }

  /** @throws Error where there is one that cannot be read */
  static async read(dataFolder: string, store: string, collection: string): Promise<MigrationMark> {
    const path = join(dataFolder, FILE)
    const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return '{}'
      throw error
    })
    const found = JSON.parse(text) as Partial<Written>
    const isKnown = found.store === store && found.collection === collection
    return new MigrationMark(
      path,
      { store, collection, newest: isKnown ? (found.newest ?? '') : '' },
      isKnown,
    )
  }

  /** Whether an item of this time may be one that went over: nothing newer has. */
  covers(addedAt: string): boolean {
    return addedAt <= this.#written.newest
  }

  /** To be called before items go over. @param addedAt - the times of all of them */
  async cover(addedAt: readonly string[]): Promise<void> {
    const newest = addedAt.reduce((a, b) => (a > b ? a : b), this.#written.newest)
    if (newest === this.#written.newest) return
    this.#written.newest = newest
    await this.keep()
  }

  /** Written whole or not at all. */
  async keep(): Promise<void> {
    await replaceFile(this.#path, `${JSON.stringify(this.#written)}\n`)
  }
}
