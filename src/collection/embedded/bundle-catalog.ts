import { rm } from 'node:fs/promises'
import { TandemError } from '../../errors.js'
import type { ItemStore } from '../../item-store/item-store.js'
import { BundleError } from '../../model/bundle/bundle.js'
import { openBundle } from '../../model/bundle/open.js'
import {
  indexFolder,
  openBundleGeneration,
  siblingFolder,
  type Generation,
  type GenerationOptions,
} from './generation.js'

/** The bundles that a service can change to, by the names of their folders. */
export interface BundleCatalog {
  /** Verifies a bundle. @throws TandemError `bundle_unusable`, `not_supported` */
  fingerprintOf(name: string): Promise<string>
  /** Opens its models, and its index of `store`. */
  open(name: string, store: ItemStore): Promise<Generation>
  /** Removes the files of its index. */
  discard(fingerprint: string): Promise<void>
}

/** The bundles next to the configured one. */
export function folderCatalog(options: GenerationOptions): BundleCatalog {
  const { modelFolder, dataFolder } = options
  return {
    fingerprintOf: async (name) => {
      try {
        return (await openBundle(siblingFolder(modelFolder, name))).fingerprint
      } catch (error) {
        if (error instanceof BundleError)
          throw new TandemError('bundle_unusable', error.message, { cause: error })
        throw error
      }
    },
    open: (name, store) => openBundleGeneration(options, siblingFolder(modelFolder, name), store),
    discard: (fingerprint) =>
      rm(indexFolder(dataFolder, fingerprint), { recursive: true, force: true }),
  }
}

const refuse = (): Promise<never> =>
  Promise.reject(
    new TandemError(
      'not_supported',
      'This service has no bundle of its own (TANDEM_ROLE=search): stop it and its encoder, and change the bundle with TANDEM_ROLE=all.',
    ),
  )

/** The catalog of a service whose models run in an encoder. */
export const noBundles: BundleCatalog = {
  fingerprintOf: refuse,
  open: refuse,
  discard: () => Promise.resolve(),
}
