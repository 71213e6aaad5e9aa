import type { Copied } from '../../item-store/item-store.js'
import { openItemStore } from '../../item-store/open.js'
import type { Maintenance, Reembedder, Restored, RestoreOptions } from '../collection.js'
import { restore } from './restore.js'
import type { Serving } from './serving.js'
import type { WriteGroups } from './write-groups.js'

export class EmbeddedMaintenance implements Maintenance {
  readonly reembedder: Reembedder
  readonly #serving: Serving
  readonly #writes: WriteGroups

  constructor(serving: Serving, writes: WriteGroups, reembedder: Reembedder) {
    this.#serving = serving
    this.#writes = writes
    this.reembedder = reembedder
  }

  get storage(): { identity: string; bytes: number } {
    const { store } = this.#serving.generation
    return { identity: store.identity, bytes: store.bytesOnDisk() }
  }

  get annRecall(): number | null {
    return this.#serving.generation.index.annRecall
  }

  copyTo(folder: string): Promise<Copied> {
    return this.#serving.generation.store.copyTo(folder)
  }

  async restoreFrom(folder: string | Promise<string>, options: RestoreOptions): Promise<Restored> {
    // From the call on: verifying the copy takes long, and writes meanwhile are newer than it.
    const touched = new Set<string>()
    const stopListening = this.#writes.onChange((ids) => ids.forEach((id) => touched.add(id)))
    try {
      const source = await openItemStore({
        folder: await folder,
        fingerprint: null,
        readOnly: true,
        isWalked: true,
      })
      try {
        using lease = this.#serving.acquire()
        return await restore(lease.generation, this.#writes, source, { ...options, touched })
      } finally {
        await source.close()
      }
    } finally {
      stopListening()
    }
  }
}
