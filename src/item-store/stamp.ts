/** What a store says about itself, checked before anything in it is read. */
import { randomUUID } from 'node:crypto'
import type { NamedBundle } from './item-store.js'

/**
 * Raised when the layout of records or tables changes. 2: encodings have tables of their own, one
 * for each bundle.
 */
export const STORE_FORMAT = 2

export interface Stamp {
  format: number
  /** Random, so that no two stores have the same. */
  identity: string
  /** The bundle whose encodings are searched. */
  serving: NamedBundle
  /** The bundle that is made ready to take its place. */
  standby: NamedBundle | null
  /**
   * Fingerprint of the bundle in the settings when the store was last opened with the one that
   * serves.
   */
  configured: string
}

/** Of the first format, whose earliest stores have no identity. */
export interface FirstStamp {
  format: 1
  identity?: string
  fingerprint: string
}

/** Thrown for a data folder that another bundle wrote, or another version of the service. */
export class StoreMismatchError extends Error {
  override readonly name = 'StoreMismatchError'
}

function newStamp({ name, fingerprint }: NamedBundle, identity: string = randomUUID()): Stamp {
  return {
    format: STORE_FORMAT,
    identity,
    serving: { name, fingerprint },
    standby: null,
    configured: fingerprint,
  }
}

/**
 * A stamp as it was found, in the present form.
 * @throws StoreMismatchError for one of another version of the service
 */
export function presentStamp(found: Stamp | FirstStamp, folder: string): Stamp {
  if (isFirst(found))
    return newStamp({ name: null, fingerprint: found.fingerprint }, found.identity ?? randomUUID())
  if (found.format === STORE_FORMAT) return found
  throw new StoreMismatchError(
    `The item store in ${folder} has format ${found.format}; this version of tandem reads formats up to ${STORE_FORMAT}.`,
  )
}

export function isFirst(stamp: Stamp | FirstStamp): stamp is FirstStamp {
  return stamp.format === 1
}

/**
 * The stamp of a store that is opened with `bundle` in the settings, null being that of a new one.
 * It may be another bundle than the one that serves where a switch has come after the setting, or
 * is being made ready.
 *
 * @throws StoreMismatchError saying what the store is and what was expected
 */
export function claimedStamp(stamp: Stamp | null, folder: string, bundle: NamedBundle): Stamp {
  if (stamp === null) return newStamp(bundle)
  const { serving, standby, configured } = stamp
  const { fingerprint } = bundle
  if (fingerprint === serving.fingerprint) {
    return {
      ...stamp,
      configured: fingerprint,
      serving: { fingerprint, name: bundle.name ?? serving.name },
    }
  }
  if (fingerprint === configured || fingerprint === standby?.fingerprint) return stamp
  throw new StoreMismatchError(
    `The items in ${folder} were embedded with a bundle of fingerprint ${serving.fingerprint}, ` +
      `but the configured bundle has fingerprint ${fingerprint}. ` +
      'Run `tandem rebuild` to embed the stored images again with the configured bundle, ' +
      'or start with the former bundle and use `tandem reembed` to change it without downtime.',
  )
}
