/**
 * `tandem rebuild`: re-embeds every stored image with the configured bundle and lets it serve. The
 * same steps as `tandem reembed`, without a service. A repeated command resumes an interrupted one,
 * and the former embeddings stay until the end.
 */
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { Command } from 'commander'
import { Backfill } from '../collection/embedded/backfill.js'
import { readConfig, type Config } from '../config.js'
import { lockDataFolder } from '../files/lock.js'
import type { ItemStore } from '../item-store/item-store.js'
import { openItemStore } from '../item-store/open.js'
import { openModels } from '../model/open.js'
import type { Models } from '../model/models.js'
import { modelSettings } from '../model/open.js'
import { openVectorIndex } from '../vector-index/open.js'
import { printLine, startProgress, type Terminal } from './terminal/terminal.js'

export function addRebuildCommand(program: Command, terminal: Terminal): void {
  program
    .command('rebuild')
    .description(
      're-embed every stored image after a change of TANDEM_MODEL (the service must be stopped)',
    )
    .action(async () => {
      const { items } = await rebuild(readConfig(process.env), terminal)
      printLine(terminal.out, `${items} items re-embedded`)
    })
}

/**
 * Rebuilds the data folder of `config` and locks it until the end.
 *
 * @throws Error when the folder is in use, the bundle or the store cannot be opened, or the disk is
 *   full
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
      await embedAll(store, models, basename(modelFolder), terminal)
      await store.bundles.promote()
      await store.bundles.end()
      // The index of the former bundle; the service builds a new one when it starts.
      await rm(join(config.dataFolder, 'index'), { recursive: true, force: true })
      return { items: store.bundles.view(models.info.fingerprint).size }
    } finally {
      await store.close()
    }
  } finally {
    await models.close()
  }
}

/** Prepares the bundle of `models` in the store, and embeds the images that it lacks. */
async function embedAll(
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
