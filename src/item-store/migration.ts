/**
 * Brings a store of the first format to the present one: there, the encoding of the one bundle lay
 * in the item's record.
 *
 * It goes by id, a batch in a transaction, and notes how far it has come in the same transaction:
 * ended at any moment, it goes on from there at the next opening. The new stamp comes first, so
 * that no older version reads a store half moved.
 */
import type { Environment } from './environment.js'
import { endsOf } from './encoding.js'
import { positionOf, recordOf, stampPosition, type Kept } from './record.js'
import type { Stamp } from './stamp.js'

const BATCH = 512
/** The last id that has been moved; there only while a migration is under way. */
const MARK = 'migrated'

/** Begins the migration of a store of the first format, which gets `stamp`. */
export function beginMigration(environment: Environment, stamp: Stamp): Promise<void> {
  return environment.change(() => {
    environment.setAbout('stamp', stamp)
    environment.setAbout(MARK, '')
  })
}

/**
 * Moves the items that are still of the first format. Where no migration has begun, there are none.
 */
export async function finishMigration(
  environment: Environment,
  onProgress: (items: number) => void,
): Promise<void> {
  let moved = 0
  for (
    let after = environment.about<string>(MARK);
    after !== undefined;
    after = environment.about<string>(MARK)
  ) {
    moved += await moveBatch(environment, after)
    onProgress(moved)
  }
}

/** Moves the next items after the id `after`, and the mark with them. @returns how many */
async function moveBatch(environment: Environment, after: string): Promise<number> {
  const { items } = environment
  const encodings = environment.encodings(environment.stamp.serving.fingerprint)
  const range = after === '' ? { limit: BATCH } : { start: after, limit: BATCH + 1 }
  const ids = [...items.getKeys(range)].filter((id) => id !== after).slice(0, BATCH)
  await environment.change(() => {
    for (const id of ids) {
      const { record, encoding } = partsOf(items.getBinary(id) as Buffer)
      items.putSync(id, record)
      encodings.putSync(id, encoding)
    }
    environment.setAbout(MARK, ids.at(-1))
  })
  return ids.length
}

/** The two records of the present format that one of the first becomes. */
function partsOf(first: Buffer): { record: Buffer; encoding: Buffer } {
  const { tokensEnd } = endsOf(first)
  const record = recordOf(JSON.parse(first.toString('utf8', tokensEnd)) as Kept)
  stampPosition(record, positionOf(first))
  return { record, encoding: first.subarray(0, tokensEnd) }
}
