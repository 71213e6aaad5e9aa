/**
 * What an operator does with an embedded collection while it serves: a bundle that stands by,
 * copies, and restore.
 */
import { openItemStore, type Copied } from '../../item-store/item-store.js'
import { restore, type Restored, type RestoreOptions } from './restore.js'
import type { Serving } from './serving.js'
import type { Standby } from './reembedder.js'
import type { Writer } from './write-groups.js'

export class Upkeep {
  /** The bundle that stands by to take the place of the one that serves. */
  readonly standby: Standby
  readonly #serving: Serving
  readonly #writer: Writer

  constructor(serving: Serving, writer: Writer, standby: Standby) {
    this.#serving = serving
    this.#writer = writer
    this.standby = standby
  }

  /** Of the item store: its identity, and the bytes that it takes on disk. */
  get storage(): { identity: string; bytes: number } {
    const { store } = this.#serving.rooms
    return { identity: store.identity, bytes: store.bytesOnDisk() }
  }

  /** See VectorIndex.annRecall; of the bundle that serves. */
  get annRecall(): number | null {
    return this.#serving.rooms.index.annRecall
  }

  /** Copies the item store as it is at one moment; writes go on meanwhile. See ItemStore.copyTo. */
  copyTo(folder: string): Promise<Copied> {
    return this.#serving.rooms.store.copyTo(folder)
  }

  /**
   * Makes the items those of another store, a copy, while searches and writes go on; see
   * restore.ts.
   *
   * @param folder - of the copy, which is not changed
   * @throws StoreMismatchError for a copy of another version of the service; TandemError
   *   storage_full, storage_read_only
   */
  async restoreFrom(folder: string, options: RestoreOptions): Promise<Restored> {
    using visit = this.#serving.enter()
    const from = await openItemStore({ folder, fingerprint: null, readOnly: true })
    try {
      return await restore(visit.rooms, this.#writer, from, options)
    } finally {
      await from.close()
    }
  }
}
