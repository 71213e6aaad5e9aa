/** Items that `tandem index` made of files that are gone. */
import { lstat } from 'node:fs/promises'
import type { Payload } from '../../http/schemas/fields.js'
import type { Client } from '../client.js'
import { originOf } from './file-payload.js'
import type { FoundImages } from './image-files.js'

export interface GoneItem {
  id: string
  root: string
  path: string
  sha256: string
  file: Buffer
  payload: Payload | null
}

/** Whether there is no such file. One that cannot be read, or is left out now, is not gone. */
export async function isGone(file: Buffer): Promise<boolean> {
  return lstat(file).then(
    () => false,
    ({ code }: NodeJS.ErrnoException) => code === 'ENOENT' || code === 'ENOTDIR',
  )
}

/** Among all items, those that are from the folders and have no file. */
export async function goneOfRoots(
  client: Client,
  folders: readonly FoundImages[],
  images: ReadonlyMap<string, unknown>,
): Promise<GoneItem[]> {
  const roots = new Set(folders.map(({ root }) => root))
  const gone: GoneItem[] = []
  for await (const item of client.items()) {
    if (images.has(item.id)) continue
    const origin = originOf(item)
    if (origin === undefined || !roots.has(origin.root) || !(await isGone(origin.file))) continue
    gone.push({ id: item.id, payload: item.payload, ...origin })
  }
  return gone
}

/** Among the files known from the last pass, the items of those that are gone. */
export async function goneOfKnown(
  client: Client,
  known: Map<string, { file: Buffer }>,
  images: ReadonlyMap<string, unknown>,
): Promise<GoneItem[]> {
  const gone: GoneItem[] = []
  for (const [id, { file }] of known) {
    if (images.has(id) || !(await isGone(file))) continue
    const item = await client.item(id)
    const origin = item && originOf(item)
    if (origin === undefined) known.delete(id)
    else gone.push({ id, payload: item?.payload ?? null, ...origin })
  }
  return gone
}
