/**
 * `tandem rebuild`: embeds every stored image again with the configured bundle, which serves from
 * then on. It is a change of bundle as a service makes it, while no service runs: ended on the way,
 * the same command goes on from there, and until its end nothing of what served before has changed.
 */
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { Backfill } from '../collection/embedded/backfill.js'
import type { Config } from '../config.js'
import { lockDataFolder } from '../files/lock.js'
import type { ItemStore } from '../item-store/item-store.js'
import { openItemStore } from '../item-store/open.js'
import { openModels, type Models } from '../model/models.js'
import { modelSettings } from '../model/open.js'
import { openVectorIndex } from '../vector-index/open.js'
import { startProgress, type Terminal } from './terminal.js'

/**
 * Rebuilds the data folder of `config`, which nobody else may use meanwhile.
 *
 * @throws when the folder is in use, the bundle or the store cannot be opened, or the disk is full
 */
export async function rebuild(config: Config, terminal: Terminal): Promise<{ items: number }> {
  const lock = await lockDataFolder(config.dataFolder, 'tandem rebuild')
  try {
    return await rebuildStore(config, terminal)
  } finally {
    await lock.release()
  }
}

async function rebuildStore(config: Config, terminal: Terminal): Promise<{ items: number }> {
  const folder = join(config.dataFolder, 'items')
  if (!existsSync(folder))
    throw new Error(`There are no items in ${config.dataFolder}: nothing to rebuild.`)
  const { modelFolder } = config
  const models = await openModels({ ...modelSettings(config), folder: modelFolder })
  try {
    const store = await openItemStore({ folder, fingerprint: null })
    try {
      if (store.fingerprint === models.info.fingerprint) return { items: 0 }
      await followAll(store, models, basename(modelFolder), terminal)
      await store.bundles.promote()
      await store.bundles.end()
      // A cache of what served before: the service makes a new one when it starts.
      await rm(join(config.dataFolder, 'index'), { recursive: true, force: true })
      return { items: store.bundles.view(models.info.fingerprint).size }
    } finally {
      await store.close()
    }
  } finally {
    await models.close()
  }
}

/** Makes the bundle of `models` stand by, unless it does, and embeds what it lacks. */
async function followAll(
  { bundles, identity }: ItemStore,
  models: Models,
  name: string,
  terminal: Terminal,
): Promise<void> {
  const { fingerprint, dim } = models.info
  if (bundles.next !== null && bundles.next.fingerprint !== fingerprint) await bundles.end()
  if (bundles.next === null) await bundles.begin({ name, fingerprint })
  const store = bundles.view(fingerprint)
  const index = await openVectorIndex({
    kind: 'exact',
    folder: '',
    dim,
    fingerprint,
    storeIdentity: identity,
  })
  const backfill = new Backfill({ models, index, store }, () => false, false)
  let { lag } = backfill
  const progress = startProgress(terminal, lag, 'images')
  try {
    for (let more = true; more; lag = backfill.lag) {
      more = await backfill.step()
      progress.advance(lag - backfill.lag)
    }
  } finally {
    progress.stop()
  }
}
