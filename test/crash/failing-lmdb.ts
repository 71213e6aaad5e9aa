/** LMDB with fail points inside its transactions and around their commit. */
import { open as openLmdb, type Database, type RootDatabase } from 'lmdb'
import { reach } from './fail-points.js'

type Pictures = Database<Buffer, string>

/** As lmdb's own. The table of pictures is the second that an item is written to. */
export function open(options: Parameters<typeof openLmdb>[0]): RootDatabase {
  const root = openLmdb(options)
  const openTable = root.openDB.bind<(options: { name: string }) => Pictures>(root)
  const openCut = (options: { name: string }): Pictures => {
    const table = openTable(options)
    return options.name === 'pictures' ? cut(table) : table
  }
  const transact = root.childTransaction.bind(root)
  const transactCut = async <Result>(work: () => Result): Promise<Result> => {
    const result = await transact(() => {
      const done = work()
      reach('store: before the commit')
      return done
    })
    reach('store: after the commit')
    return result
  }
  return Object.assign(root, { openDB: openCut, childTransaction: transactCut })
}

function cut(pictures: Pictures): Pictures {
  const put = pictures.putSync.bind(pictures)
  const remove: (id: string) => unknown = pictures.removeSync.bind(pictures)
  const cutPut = (id: string, bytes: Buffer): unknown => {
    reach('store: half of an item is put')
    return put(id, bytes)
  }
  const cutRemove = (id: string): unknown => {
    reach('store: half of an item is removed')
    return remove(id)
  }
  return Object.assign(pictures, { putSync: cutPut, removeSync: cutRemove })
}
