/** LMDB with fail points inside its transactions and around their commit. */
import { open as openLmdb, type Database, type RootDatabase } from 'lmdb'
import type { Stamp } from '../../src/item-store/stamp.js'
import { reach } from './fail-points.js'

type Table = Database<unknown, string>
/** What a transaction is for: told by what it writes. */
type Purpose =
  'store' | 're-embedding starts' | 'backfill' | 're-embedding ends' | 'promotion' | 'migration'

let purpose: Purpose = 'store'
/** Whether the transaction has written an image, or a record of an item. */
let wrote = { image: false, item: false }

/** As lmdb's own. */
export function open(options: Parameters<typeof openLmdb>[0]): RootDatabase {
  const root = openLmdb(options)
  const openTable = root.openDB.bind<(options: { name: string }) => Table>(root)
  const openCut = (options: { name: string }): Table => {
    const table = openTable(options)
    const { name } = options
    if (name === 'pictures') return cutImages(table)
    if (name === 'items') return before(table, () => (wrote.item = true))
    if (name === 'about')
      return before(table, (key, value) => (purpose = purposeOf(key, value, table) ?? purpose))
    return name.startsWith('encodings-') ? before(table, reachInEncodings) : table
  }
  const transact = root.childTransaction.bind(root)
  const transactCut = async <Result>(work: () => Result): Promise<Result> => {
    let own: Purpose = 'store'
    const result = await transact(() => {
      purpose = 'store'
      wrote = { image: false, item: false }
      const done = work()
      own = purpose
      reach(`${own}: before the commit`)
      return done
    })
    reach(`${own}: after the commit`)
    return result
  }
  return Object.assign(root, { openDB: openCut, childTransaction: transactCut })
}

function before(table: Table, act: (key: string, value: unknown) => unknown): Table {
  const put: (key: string, value: unknown) => unknown = table.putSync.bind(table)
  return Object.assign(table, {
    putSync: (key: string, value: unknown) => {
      act(key, value)
      return put(key, value)
    },
  })
}

/** The second table that an item is written to and removed from. */
function cutImages(images: Table): Table {
  const remove: (id: string) => unknown = images.removeSync.bind(images)
  const removeSync = (id: string): unknown => {
    reach('store: half of an item is removed')
    return remove(id)
  }
  const cut = before(images, () => {
    wrote.image = true
    reach('store: half of an item is put')
  })
  return Object.assign(cut, { removeSync })
}

/**
 * A new item comes with its image; a migration writes items without, and what a backfill is
 * no item at all.
 */
function reachInEncodings(): void {
  if (wrote.image) return
  reach(wrote.item ? 'migration: half of an item is moved' : 'backfill: half of a group is stored')
}

function purposeOf(key: string, value: unknown, about: Table): Purpose | null {
  if (key === 'followed') return purpose === 'store' ? 'backfill' : null
  if (key === 'migrated') return 'migration'
  if (key !== 'stamp') return null
  const [past, present] = [about.get('stamp') as Stamp | undefined, value as Stamp]
  if (past?.format !== present.format) return null
  if (past.serving.fingerprint !== present.serving.fingerprint) return 'promotion'
  if ((past.standby === null) === (present.standby === null)) return null
  return present.standby === null ? 're-embedding ends' : 're-embedding starts'
}
