/** The stamp of a store: format, identity and bundles. Checked before anything is read. */
import { randomUUID } from 'node:crypto'
import type { NamedBundle } from './item-store.js'

/** 2: encodings have a table for each bundle. */
export const STORE_FORMAT = 2

export interface Stamp {
  format: number
  /** Random and unique. */
  identity: string
  /** Searches use its encodings. */
  serving: NamedBundle
  /** The next bundle during a re-embedding; the stored name of earlier versions. */
  standby: NamedBundle | null
  /** Fingerprint of the configured bundle when it last was the serving one. */
  configured: string
}

/** Stamp of the first format; its earliest stores have no identity. */
export interface FirstStamp {
  format: 1
  identity?: string
  fingerprint: string
}

/** The store belongs to another bundle, or to an unknown format. */
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
 * @returns the stored stamp in the present form
 * @throws StoreMismatchError for an unknown format
 */
export function presentStamp(stored: Stamp | FirstStamp, folder: string): Stamp {
  if (isFirst(stored))
    return newStamp(
      { name: null, fingerprint: stored.fingerprint },
      stored.identity ?? randomUUID(),
    )
  if (stored.format === STORE_FORMAT) return stored
  throw new StoreMismatchError(
    `The item store in ${folder} has format ${stored.format}; this version of tandem reads formats up to ${STORE_FORMAT}.`,
  )
}

/** @throws Error unless the stored value is a stamp of a known or later format */
export function checkShape(stored: Stamp | FirstStamp): void {
  const isFingerprint = (value: unknown): boolean => typeof value === 'string' && value.length > 0
  const isBundle = (bundle: NamedBundle | null): boolean =>
    isFingerprint(bundle?.fingerprint) && ['string', 'object'].includes(typeof bundle?.name)
  const isStamp = isFirst(stored)
    ? isFingerprint(stored.fingerprint)
    : stored.format !== STORE_FORMAT ||
      (isFingerprint(stored.identity) &&
        isFingerprint(stored.configured) &&
        isBundle(stored.serving) &&
        (stored.standby === null || isBundle(stored.standby)))
  if (!Number.isInteger(stored.format) || !isStamp) throw new Error('no stamp')
}

/** Whether the stamp has the first format, which names one bundle. */
export function isFirst(stamp: Stamp | FirstStamp): stamp is FirstStamp {
  return stamp.format === 1
}

/**
 * The stamp after opening with the configured `bundle`. The configured bundle differs from the
 * serving one after a promotion and during a re-embedding.
 *
 * @param stamp - of the store; null for a new one
 * @throws StoreMismatchError naming both bundles and the commands that mend it
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
