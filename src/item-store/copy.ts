/** A copy of an LMDB environment while it is in use. */
import { mkdir } from 'node:fs/promises'
import { getSystemErrorMap } from 'node:util'
import { storageFailure } from '../files/storage-failure.js'

/** Files of an environment: its pages, and the table of its readers. */
export const DATA_FILE = 'data.mdb'
export const LOCK_FILE = 'lock.mdb'

/** An environment of the binding. */
interface Copyable {
  backup(folder: string, compact: boolean): Promise<void>
}

/**
 * Copies an environment while it is in use: LMDB reads in one read transaction, in its own thread.
 *
 * The compact copy follows the trees, omits free pages and takes no lock. The plain copy of this
 * binding blocks all writers, and the event loop with them, until it ends.
 */
export async function copyPages(environment: Copyable, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  try {
    await environment.backup(folder, true)
  } catch (error) {
    throw await storageFailure(withCode(error as Error), folder, 'the copy')
  }
}

/** Adds the error code: the binding passes on only the sentence of the operating system. */
function withCode(error: Error): Error {
  const known = [...getSystemErrorMap()].find(
    ([, [, sentence]]) => sentence.toLowerCase() === error.message.toLowerCase(),
  )
  return known === undefined ? error : Object.assign(error, { code: known[1][0] })
}
