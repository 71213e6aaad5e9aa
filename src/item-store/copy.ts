/** A copy of an LMDB environment while it is in use. */
import { mkdir } from 'node:fs/promises'
import { getSystemErrorMap } from 'node:util'
import { storageFailure } from '../files/storage-failure.js'

/**
 * Where LMDB keeps the pages of an environment, in its folder, and what tells its readers of one
 * another.
 */
export const DATA_FILE = 'data.mdb'
export const LOCK_FILE = 'lock.mdb'

/** What is copied: an environment as the binding opened it. */
interface Copyable {
  backup(folder: string, compact: boolean): Promise<void>
}

/**
 * Copies the pages of one moment: LMDB reads them inside one read transaction, in a thread of its
 * own.
 *
 * It copies page by page in the order of the trees ("compact"). That leaves free pages out, and
 * takes no lock: the plain copy of this binding held up all writers until its end, and the event
 * loop with them.
 */
export async function copyPages(environment: Copyable, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  try {
    await environment.backup(folder, true)
  } catch (error) {
    throw await storageFailure(withCode(error as Error), folder, 'the copy')
  }
}

/** The binding gives the sentence of the operating system alone. */
function withCode(error: Error): Error {
  const known = [...getSystemErrorMap()].find(
    ([, [, sentence]]) => sentence.toLowerCase() === error.message.toLowerCase(),
  )
  return known === undefined ? error : Object.assign(error, { code: known[1][0] })
}
