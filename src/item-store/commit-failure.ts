/** Why a commit failed, in words for the client where it can do something about it. */
import { statfs } from 'node:fs/promises'
import { TandemError } from '../errors.js'

/** Below this a disk counts as full: LMDB needs room for a whole transaction and reports a short write as EIO. */
const FULL_BELOW_BYTES = 16 * 1024 * 1024

/**
 * The error to throw for `error`, which a commit into `folder` ended with.
 * It waits for the cause, which lmdb hands over as a promise; left alone, that promise would end the process.
 */
export async function commitFailure(error: unknown, folder: string): Promise<unknown> {
  if (!(error instanceof Error && 'commitError' in error)) return error
  const cause = await Promise.resolve(error.commitError).catch((reason: unknown) => reason)
  const disk = await statfs(folder)
  return disk.bavail * disk.bsize < FULL_BELOW_BYTES
    ? new TandemError('storage_full', 'The disk that holds the items is full; nothing was stored.', { cause })
    : new Error('The item store could not commit.', { cause })
}
