/** Why a commit failed, in words for the client where it can do something about it. */
import { TandemError } from '../errors.js'
import { storageFailure } from '../files/storage-failure.js'

/**
 * The error to throw for `error`, which a transaction in `folder` ended with: `storage_full` or
 * `storage_read_only` where the disk is the reason.
 *
 * It waits for the cause, which lmdb hands over as a promise; left alone, that promise would end
 * the process. What a large transaction meets before its commit, when pages of it are written out
 * early, comes without such a promise.
 */
export async function commitFailure(error: unknown, folder: string): Promise<unknown> {
  const atCommit = error instanceof Error && 'commitError' in error
  const cause = atCommit
    ? await Promise.resolve(error.commitError).catch((reason: unknown) => reason)
    : error
  const failure = await storageFailure(cause, folder, 'the items')
  return atCommit && !(failure instanceof TandemError)
    ? new Error('The item store could not commit.', { cause })
    : failure
}
