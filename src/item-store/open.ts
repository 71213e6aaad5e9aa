/** Opens the item store: LMDB, with a stamp that names the serving bundle. */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { DATA_FILE } from './copy.js'
import { Environment } from './environment.js'
import { DamagedStoreError } from './lmdb-pages.js'
import type { Bundles, ItemStore } from './item-store.js'
import { LmdbBundles } from './lmdb-bundles.js'
import { LmdbItemStore } from './lmdb-item-store.js'
import { beginMigration, finishMigration } from './migration.js'
import {
  claimedStamp,
  checkShape,
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
  /** Verifies the pages of a large file too, which takes long. */
  isWalked?: boolean
}

/**
 * Opens or creates the store, and migrates one of an earlier format. After a promotion the serving
 * bundle may differ from the configured one.
 *
 * @throws StoreMismatchError naming both fingerprints and the command that embeds the images again;
 *   DamagedStoreError
 */
export async function openItemStore(options: ItemStoreOptions): Promise<ItemStore> {
  const { folder, readOnly, isWalked } = options
  const environment = await Environment.open(folder, readOnly, isWalked).catch((error: Error) => {
    throw error instanceof DamagedStoreError
      ? damaged(folder, error.message, error)
      : new Error(`The item store in ${folder} cannot be opened: ${error.message}.`, {
          cause: error,
        })
  })
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

/** Whether the folder has a store, also a damaged one. */
export async function hasContent(folder: string): Promise<boolean> {
  const found = await stat(join(folder, DATA_FILE)).catch(() => null)
  return found !== null && found.size > 0
}

function damaged(folder: string, why: string, cause?: unknown): DamagedStoreError {
  return new DamagedStoreError(
    `The item store in ${folder} is damaged: ${why}. ` +
      'Move the folder away, start the service and restore a backup.',
    { cause },
  )
}

function storedStamp(environment: Environment): Stamp | FirstStamp | undefined {
  try {
    const stamp = environment.about<Stamp | FirstStamp>('stamp')
    if (stamp !== undefined) checkShape(stamp)
    return stamp
  } catch (error) {
    throw damaged(environment.folder, 'its stamp cannot be read', error)
  }
}

/** Stamps a new store, and checks the stamp of an existing one. */
async function claim(environment: Environment, options: ItemStoreOptions): Promise<void> {
  const { folder, fingerprint, name = null, readOnly = false } = options
  const stored = storedStamp(environment)
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
