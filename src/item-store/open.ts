/** Opens the item store: LMDB, with a stamp that names the serving bundle. */
import { isDeepStrictEqual } from 'node:util'
import { Environment } from './environment.js'
import type { Bundles, ItemStore } from './item-store.js'
import { LmdbBundles } from './lmdb-bundles.js'
import { LmdbItemStore } from './lmdb-item-store.js'
import { beginMigration, finishMigration } from './migration.js'
import {
  claimedStamp,
  isFirst,
  presentStamp,
  StoreMismatchError,
  type FirstStamp,
  type Stamp,
} from './stamp.js'

export interface ItemStoreOptions {
  /** Created if it is missing. */
  folder: string
  /**
   * Of the configured bundle; stamped on a new store. Null opens an existing store without a check
   * of its bundle.
   */
  fingerprint: string | null
  /** Name of the configured bundle's folder; the store remembers it. */
  name?: string
  /** Called with the number of items migrated so far from an earlier format. */
  onMigration?: (items: number) => void
  /** Writes nothing: the store may lie on a read-only disk. It must have the present format. */
  readOnly?: boolean
}

/**
 * Opens or creates the store, and migrates one of an earlier format. After a promotion the serving
 * bundle may differ from the configured one.
 *
 * @throws StoreMismatchError naming both fingerprints and the command that embeds the images again
 */
export async function openItemStore(options: ItemStoreOptions): Promise<ItemStore> {
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
  const stored = environment.about<Stamp | FirstStamp>('stamp')
  const stamp = stored === undefined ? null : presentStamp(stored, folder)
  const claimed = fingerprint === null ? stamp : claimedStamp(stamp, folder, { name, fingerprint })
  if (claimed === null) throw new StoreMismatchError(`There is no item store in ${folder}.`)
  if (readOnly && stored !== undefined && isFirst(stored)) {
    throw new StoreMismatchError(
      `The item store in ${folder} has an earlier format. Start the service once to migrate it.`,
    )
  }
  if (readOnly) return
  if (stored !== undefined && isFirst(stored)) await beginMigration(environment, claimed)
  else if (!isDeepStrictEqual(stored, claimed))
    await environment.change(() => environment.setAbout('stamp', claimed))
}
