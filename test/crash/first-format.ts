/** Converts a data folder back into the first format, so that the next start migrates it. */
import { join } from 'node:path'
import { open, type Database } from 'lmdb'
import { endsOf } from '../../src/item-store/encoding.js'
import type { FirstStamp, Stamp } from '../../src/item-store/stamp.js'
import type { BundleName } from './fake-models.js'

const POSITION_BYTES = 8

type Table = Database<Buffer, string>

/**
 * Converts a store into the first format, which has neither a next bundle nor names of bundles.
 *
 * @returns the name of the serving bundle; null if there is no complete store of the present format
 */
export async function toFirstFormat(dataFolder: string): Promise<BundleName | null> {
  const root = open({ path: join(dataFolder, 'items'), noSubdir: false, maxDbs: 64 })
  try {
    const about: Database<unknown, string> = root.openDB({ name: 'about', encoding: 'json' })
    const stamp = about.get('stamp') as Stamp | FirstStamp | undefined
    if (stamp === undefined || !('serving' in stamp) || about.get('migrated') !== undefined)
      return null
    const { serving, standby, identity } = stamp
    const items: Table = root.openDB({ name: 'items', encoding: 'binary' })
    const [servingEncodings, nextEncodings] = [serving, standby].map((bundle): Table | null =>
      bundle === null
        ? null
        : root.openDB({ name: `encodings-${bundle.fingerprint}`, encoding: 'binary' }),
    )
    await root.transaction(() => {
      for (const id of [...items.getKeys()]) {
        const [record, encoding] = [items.get(id) as Buffer, servingEncodings?.get(id) as Buffer]
        const { tokensEnd } = endsOf(encoding)
        items.putSync(
          id,
          Buffer.concat([encoding.subarray(0, tokensEnd), record.subarray(POSITION_BYTES)]),
        )
      }
      servingEncodings?.clearSync()
      nextEncodings?.clearSync()
      about.putSync('stamp', {
        format: 1,
        identity,
        fingerprint: serving.fingerprint,
      } satisfies FirstStamp)
      about.removeSync('followed')
    })
    return serving.name as BundleName
  } finally {
    await root.close()
  }
}
