/** LMDB with fail points in transactions and before and after their commit. */
import { open as openLmdb, type Database, type RootDatabase } from 'lmdb'
import type { Stamp } from '../../src/item-store/stamp.js'
import { reach } from './fail-points.js'

type Table = Database<unknown, string>
/** Purpose of a transaction, recognised by its writes. */
type Purpose =
  'store' | 're-embedding starts' | 'backfill' | 're-embedding ends' | 'promotion' | 'migration'

let purpose: Purpose = 'store'
/** Whether the transaction has written an image or a record. */
let wrote = { image: false, item: false }

/** The `open` of lmdb, with fail points. */
export function open(options: Parameters<typeof openLmdb>[0]): RootDatabase {
  const root = openLmdb(options)
  const openTable = root.openDB.bind<(options: { name: string }) => Table>(root)
  const openWithFailPoints = (options: { name: string }): Table => {
    const table = openTable(options)
    const { name } = options
    if (name === 'pictures') return withImageFailPoints(table)
    if (name === 'items') return beforePut(table, () => (wrote.item = true))
    if (name === 'about')
      return beforePut(table, (key, value) => (purpose = purposeOf(key, value, table) ?? purpose))
    return name.startsWith('encodings-') ? beforePut(table, reachInEncodings) : table
  }
  const transact = root.childTransaction.bind(root)
  const transactWithFailPoints = async <Result>(work: () => Result): Promise<Result> => {
    let reached: Purpose = 'store'
    const result = await transact(() => {
      purpose = 'store'
      wrote = { image: false, item: false }
      const workResult = work()
      reached = purpose
      reach(`${reached}: before the commit`)
      return workResult
    })
    reach(`${reached}: after the commit`)
    return result
  }
  return Object.assign(root, {
    openDB: openWithFailPoints,
    childTransaction: transactWithFailPoints,
  })
}

function beforePut(table: Table, act: (key: string, value: unknown) => unknown): Table {
  const put: (key: string, value: unknown) => unknown = table.putSync.bind(table)
  return Object.assign(table, {
    putSync: (key: string, value: unknown) => {
      act(key, value)
      return put(key, value)
    },
  })
}

/** Images are written and removed after the record of their item. */
function withImageFailPoints(images: Table): Table {
  const remove: (id: string) => unknown = images.removeSync.bind(images)
  const removeSync = (id: string): unknown => {
    reach('store: half of an item is removed')
    return remove(id)
  }
  const instrumented = beforePut(images, () => {
    wrote.image = true
    reach('store: half of an item is put')
  })
  return Object.assign(instrumented, { removeSync })
}

/** A put writes an image, a migration only records and encodings, and a backfill only encodings. */
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
