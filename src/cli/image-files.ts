/** The image files of a folder, and the ids that they are stored under. */
import { createHash } from 'node:crypto'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** Files with other extensions are no images. The service decides which types it can read. */
const MIME_BY_EXTENSION: Readonly<Record<string, string>> = {
  jpg: 'image/jpeg',
  jpeg: 'image/jpeg',
  jpe: 'image/jpeg',
  png: 'image/png',
  webp: 'image/webp',
  gif: 'image/gif',
  avif: 'image/avif',
  tif: 'image/tiff',
  tiff: 'image/tiff',
  heic: 'image/heic',
  heif: 'image/heif',
  bmp: 'image/bmp',
}

export interface ImageFile {
  file: string
  /** Its path below the folder, with `/`. */
  path: string
  mime: string
}

/** The media type by the file's extension; undefined if that is not one of an image. */
export function mimeOf(name: string): string | undefined {
  return MIME_BY_EXTENSION[/\.([^./\\]+)$/.exec(name)?.[1]?.toLowerCase() ?? '']
}

/**
 * Lists image files below `folder`, sorted by path, without hidden files and folders. Does not
 * follow links to folders, which could form a loop.
 *
 * @param onUnreadable - is called with each folder or link that cannot be read, and the reason
 */
export async function imageFiles(
  folder: string,
  onUnreadable: (path: string, reason: string) => void,
): Promise<{ images: ImageFile[]; others: number }> {
  const images: ImageFile[] = []
  let others = 0
  async function walk(below: string): Promise<void> {
    const entries = await readdir(join(folder, below), { withFileTypes: true })
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      if (entry.name.startsWith('.')) continue
      const path = below === '' ? entry.name : `${below}/${entry.name}`
      const file = join(folder, path)
      try {
        const isFile = entry.isFile() || (entry.isSymbolicLink() && (await stat(file)).isFile())
        const mime = mimeOf(entry.name)
        if (entry.isDirectory()) await walk(path)
        else if (isFile && mime !== undefined) images.push({ file, path, mime })
        else others += 1
      } catch (error) {
        onUnreadable(path, (error as Error).message)
      }
    }
  }
  await walk('')
  return { images, others }
}

const MAX_ID_LENGTH = 256
const NOT_IN_AN_ID = /[\p{C}\p{Zl}\p{Zp}]/gu

/** The path if it is a valid id, otherwise a valid id like it that ends in a hash of the path. */
export function idOfPath(path: string): string {
  const plain = path.replace(NOT_IN_AN_ID, '_').trim()
  if (plain === path && path.length <= MAX_ID_LENGTH) return path
  const hash = createHash('sha256').update(path).digest('hex').slice(0, 12)
  return `${[...plain].slice(-200).join('').trim()}~${hash}`
}
