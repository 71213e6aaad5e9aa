/** What a store says about itself, checked before anything in it is read. */

/** Raised when the layout of records or tables changes. */
export const STORE_FORMAT = 1

/** As it may be found: those of the first version have no identity. The rest of their format is the same. */
export type FoundStamp = Omit<Stamp, 'identity'> & Partial<Pick<Stamp, 'identity'>>

export interface Stamp {
  format: number
  /** Random, so that no two stores have the same. One that the first version made gets it when it is next opened. */
  identity: string
  /** Of the bundle that made the embeddings and tokens. */
  fingerprint: string
}

/** Thrown for a data folder that another bundle wrote, or another version of the service. */
export class StoreMismatchError extends Error {
  override readonly name = 'StoreMismatchError'
}

/**
 * @param fingerprint of the configured bundle; null accepts any
 * @throws StoreMismatchError saying what the store is and what was expected
 */
export function checkStamp(stamp: FoundStamp, folder: string, fingerprint: string | null): void {
  if (stamp.format !== STORE_FORMAT) {
    throw new StoreMismatchError(
      `The item store in ${folder} has format ${stamp.format}; this version of tandem reads format ${STORE_FORMAT}.`,
    )
  }
  if (fingerprint !== null && stamp.fingerprint !== fingerprint) {
    throw new StoreMismatchError(
      `The items in ${folder} were embedded with a bundle of fingerprint ${stamp.fingerprint}, ` +
        `but the configured bundle has fingerprint ${fingerprint}. ` +
        'Run `tandem rebuild` to embed the stored pictures again with the configured bundle.',
    )
  }
}
