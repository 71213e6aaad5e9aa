/** The service with word models and an index in memory; the item store is the real one. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { BundleCatalog } from '../../src/collection/embedded/bundle-catalog.js'
import { EmbeddedCollection } from '../../src/collection/embedded/embedded.js'
import { readConfig, type Config } from '../../src/config.js'
import { TandemError } from '../../src/errors.js'
import { buildApp, type Limits, type Tandem } from '../../src/http/app.js'
import { openItemStore } from '../../src/item-store/open.js'
import { MemoryIndex } from './memory-index.js'
import { WordModels } from './word-models.js'

/** A catalog without bundles. */
export const emptyCatalog: BundleCatalog = {
  fingerprintOf: (name) =>
    Promise.reject(new TandemError('bundle_unusable', `There is no bundle ${name}.`)),
  open: (name) => Promise.reject(new Error(`There is no bundle ${name}.`)),
  discard: () => Promise.resolve(),
}

export interface TestService extends Tandem {
  models: WordModels
  index: MemoryIndex
  /** Closes the service and removes its folder. */
  end(): Promise<void>
}

/** @param start - whether to start the service, or only build it */
export async function startTestService(
  { limits = {}, ...settings }: Partial<Config> & { limits?: Partial<Limits> } = {},
  start = true,
  catalog: BundleCatalog = emptyCatalog,
): Promise<TestService> {
  const folder = await mkdtemp(join(tmpdir(), 'tandem-'))
  const models = new WordModels()
  const index = new MemoryIndex()
  const config: Config = { ...readConfig({}), logLevel: 'silent', dataFolder: folder, ...settings }
  const tandem = await buildApp(config, {
    limits,
    open: async () =>
      new EmbeddedCollection(
        {
          models,
          index,
          store: await openItemStore({ folder, fingerprint: models.info.fingerprint }),
        },
        catalog,
      ),
  })
  if (start) await tandem.start()
  const end = async (): Promise<void> => {
    await tandem.close()
    await rm(folder, { recursive: true, force: true })
  }
  return { ...tandem, models, index, end }
}
