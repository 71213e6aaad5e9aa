/**
 * Migrates a store of the first format, where a record held the encoding of the only bundle.
 *
 * Items are migrated in batches in the order of their ids. Each transaction also stores the last
 * id, so an interrupted migration continues at the next start. The new stamp is written first: an
 * older version then refuses a store that is half migrated.
 */
import type { Environment } from './environment.js'
import { endsOf } from './encoding.js'
import { parseContent, positionOf, recordOf, stampPosition, textOf } from './record.js'
import type { Stamp } from './stamp.js'

const BATCH = 512
/** Name of the last migrated id in the table `about`; present only during a migration. */
const MARK = 'migrated'

/** Begins the migration of a store of the first format. @param stamp - of the present format */
export function beginMigration(environment: Environment, stamp: Stamp): Promise<void> {
  return environment.change(() => {
    environment.setAbout('stamp', stamp)
    environment.setAbout(MARK, '')
  })
}

/** Migrates the remaining items; returns at once where no migration has begun. */
export async function finishMigration(
  environment: Environment,
  onProgress: (items: number) => void,
): Promise<void> {
  let migrated = 0
  for (
    let after = environment.about<string>(MARK);
    after !== undefined;
    after = environment.about<string>(MARK)
  ) {
    migrated += await migrateBatch(environment, after)
    onProgress(migrated)
  }
}

/** Migrates a batch of items after the id `after`. @returns their number */
async function migrateBatch(environment: Environment, after: string): Promise<number> {
  const { items } = environment
  const encodings = environment.encodings(environment.stamp.serving.fingerprint)
  const range = after === '' ? { limit: BATCH } : { start: after, limit: BATCH + 1 }
  const ids = [...items.getKeys(range)].filter((id) => id !== after).slice(0, BATCH)
  await environment.change(() => {
    for (const id of ids) {
      const { record, encoding } = partsOf(id, items.getBinary(id) as Buffer)
      items.putSync(id, record)
      encodings.putSync(id, encoding)
    }
    environment.setAbout(MARK, ids.at(-1))
  })
  return ids.length
}

/** Splits a record of the first format into record and encoding. */
function partsOf(id: string, first: Buffer): { record: Buffer; encoding: Buffer } {
  const { tokensEnd } = endsOf(first)
  const record = recordOf(id, parseContent(textOf(first, tokensEnd)))
  stampPosition(record, positionOf(first))
  return { record, encoding: first.subarray(0, tokensEnd) }
}
