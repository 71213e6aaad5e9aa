/**
 * Mark of a migration in the data folder: the other collection, and the time of the newest copied
 * item. A later run thus tells copied items from those that others have written since.
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
  /** Whether these two collections have been in a migration before. */
  readonly isKnown: boolean

  private constructor(path: string, written: Written, isKnown: boolean) {
    this.#path = path
    this.#written = written
    this.isKnown = isKnown
  }

  /** @throws Error if the mark cannot be read */
  static async read(dataFolder: string, store: string, collection: string): Promise<MigrationMark> {
    const path = join(dataFolder, FILE)
    const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return '{}'
      throw error
    })
    const stored = JSON.parse(text) as Partial<Written>
    const isKnown = stored.store === store && stored.collection === collection
    return new MigrationMark(
      path,
      { store, collection, newest: isKnown ? (stored.newest ?? '') : '' },
      isKnown,
    )
  }

  /** Whether an item of this time can have been copied. */
  covers(addedAt: string): boolean {
    return addedAt <= this.#written.newest
  }

  /** Called before items are copied. @param addedAt - their times */
  async cover(addedAt: readonly string[]): Promise<void> {
    const newest = addedAt.reduce((a, b) => (a > b ? a : b), this.#written.newest)
    if (newest === this.#written.newest) return
    this.#written.newest = newest
    await this.save()
  }

  async save(): Promise<void> {
    await replaceFile(this.#path, `${JSON.stringify(this.#written)}\n`)
  }
}
