/**
 * Turns a data folder back into one of the first format, so that the next start has to migrate it.
 */
import { join } from 'node:path'
import { open, type Database } from 'lmdb'
import type { FirstStamp, Stamp } from '../../src/item-store/stamp.js'
import type { BundleName } from './made-models.js'

const POSITION_BYTES = 8

type Table = Database<Buffer, string>

/**
 * Turns a store into one of the first format, which has no next bundle and no name of the serving
 * one.
 *
 * @returns the name of the serving bundle; null where there is no store yet
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
    const [own, other] = [serving, standby].map((bundle): Table | null =>
      bundle === null
        ? null
        : root.openDB({ name: `encodings-${bundle.fingerprint}`, encoding: 'binary' }),
    )
    await root.transaction(() => {
      for (const id of [...items.getKeys()]) {
        const [record, encoding] = [items.get(id) as Buffer, own?.get(id) as Buffer]
        items.putSync(id, Buffer.concat([encoding, record.subarray(POSITION_BYTES)]))
      }
      own?.clearSync()
      other?.clearSync()
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
