/**
 * `tandem rebuild`: embeds every stored picture again with the configured bundle. The new store is made beside the old
 * one and takes its place when it is whole; until then nothing of the old one changes.
 */
import { existsSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Config } from '../config.js'
import { lockDataFolder } from '../data-folder-lock.js'
import { openItemStore, type Item, type ItemStore } from '../item-store.js'
import { openModels, type Models } from '../model.js'
import { startProgress, type Terminal } from './terminal.js'

const BATCH = 32

/** Embeds `items` again and stores them with the picture, payload and time that they had. */
async function copy(items: readonly Item[], from: ItemStore, to: ItemStore, models: Models): Promise<void> {
  const pictures = items.map(({ id }) => {
    const bytes = from.picture(id)
    if (bytes === undefined) throw new Error(`The stored picture of "${id}" is missing.`)
    return bytes
  })
  const { encoded } = await models.encodeImages(pictures)
  await to.put(
    items.map(({ id, payload, picture, addedAt }, at) => {
      const { embedding, imageTokens } = encoded[at] as (typeof encoded)[number]
      const { mime, width, height } = picture
      return {
        id,
        payload,
        embedding,
        imageTokens,
        addedAt,
        picture: { bytes: pictures[at] as Uint8Array, mime, width, height },
      }
    }),
  )
}

async function copyAll(from: ItemStore, to: ItemStore, models: Models, terminal: Terminal): Promise<void> {
  const progress = startProgress(terminal, from.size, 'images')
  let batch: Item[] = []
  const flush = async (): Promise<void> => {
    await copy(batch, from, to, models)
    progress.advance(batch.length)
    batch = []
  }
  try {
    for (const item of from.since(0)) {
      batch.push(item)
      if (batch.length === BATCH) await flush()
    }
    if (batch.length > 0) await flush()
  } finally {
    progress.stop()
  }
}

/**
 * Rebuilds the data folder of `config`, which nobody else may use meanwhile.
 *
 * @throws when the folder is in use, the bundle or the store cannot be opened, or the disk is full; the data folder is
 *   then as it was
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
  const [items, fresh, before] = ['items', 'items.rebuilding', 'items.before'].map((name) =>
    join(config.dataFolder, name),
  ) as [string, string, string]
  // An earlier rebuild that ended between its two renames left the old store under its other name.
  if (!existsSync(items) && existsSync(before)) await rename(before, items)
  if (!existsSync(items)) throw new Error(`There are no items in ${config.dataFolder}: nothing to rebuild.`)

  const { modelFolder: folder, inferenceThreads, maxImagePixels } = config
  const models = await openModels({ folder, inferenceThreads, maxImagePixels })
  try {
    await rm(fresh, { recursive: true, force: true })
    await mkdir(fresh, { recursive: true })
    const from = await openItemStore({ folder: items, fingerprint: null })
    const to = await openItemStore({ folder: fresh, fingerprint: models.info.fingerprint })
    const count = from.size
    try {
      await copyAll(from, to, models, terminal)
    } finally {
      await from.close()
      await to.close()
    }
    // The index is a cache of the old store: the service makes a new one when it starts.
    await rm(join(config.dataFolder, 'index'), { recursive: true, force: true })
    await rename(items, before)
    await rename(fresh, items)
    await rm(before, { recursive: true })
    return { items: count }
  } finally {
    await models.close()
  }
}
