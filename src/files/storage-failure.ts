/** Turns errors of the disk into errors for the client. */
import { constants } from 'node:os'
import { TandemError } from '../errors.js'
import { diskSpace } from './disk-space.js'

const { EACCES, EDQUOT, EIO, ENOSPC, EPERM, EROFS } = constants.errno

/** A disk with less counts as full: LMDB reports a short write of a transaction as EIO. */
const FULL_BELOW_BYTES = 16 * 1024 * 1024

/**
 * The error to throw after a failed write into `folder`: storage_full or storage_read_only if the
 * disk is the reason, otherwise `error` itself.
 *
 * @param what - object of the sentence, such as "the items"
 */
export async function storageFailure(
  error: unknown,
  folder: string,
  what: string,
): Promise<unknown> {
  const number = numberOf(error)
  if (number === ENOSPC || number === EDQUOT || (number === EIO && (await isFull(folder)))) {
    return new TandemError(
      'storage_full',
      `The disk that holds ${what} is full; nothing was stored.`,
      { cause: error },
    )
  }
  if (number === EROFS || number === EACCES || number === EPERM) {
    return new TandemError('storage_read_only', { what }, { cause: error })
  }
  return error
}

/** The code of LMDB's errors is the number of the operating system, that of Node's its name. */
function numberOf(error: unknown): number | undefined {
  const { code } = error as { code?: unknown }
  if (typeof code === 'number') return code
  return (constants.errno as Record<string, number>)[String(code)]
}

async function isFull(folder: string): Promise<boolean> {
  return (await diskSpace(folder)).free < FULL_BELOW_BYTES
}
