/** The image files of a folder, and the ids that they are stored under. */
import { createHash } from 'node:crypto'
import type { Stats } from 'node:fs'
import { readdir, realpath, stat } from 'node:fs/promises'
import { basename, dirname } from 'node:path'

/** Files with other extensions are no images. The service decides which types it can read. */
const MIME_BY_EXTENSION: Readonly<Record<string, string>> = {
  jpg: 'image/jpeg',
  jpeg: 'image/jpeg',
  jpe: 'image/jpeg',
  jfif: 'image/jpeg',
  jif: 'image/jpeg',
  jfi: 'image/jpeg',
  pjpeg: 'image/jpeg',
  pjp: 'image/jpeg',
  png: 'image/png',
  apng: 'image/png',
  webp: 'image/webp',
  gif: 'image/gif',
  avif: 'image/avif',
  tif: 'image/tiff',
  tiff: 'image/tiff',
  heic: 'image/heic',
  heif: 'image/heif',
  bmp: 'image/bmp',
}

/** Folders of thumbnails, deleted files, packages and archives' remains. */
const EXCLUDED_NAMES = [
  '@eaDir',
  '@Recycle',
  '#recycle',
  '#snapshot',
  '$RECYCLE.BIN',
  'System Volume Information',
  'lost+found',
  '__MACOSX',
  'node_modules',
]
const NO_IMAGE = 'its extension is not one of an image'

export interface ImageFile {
  /** As the file system has it; bytes, since a name need not be UTF-8. */
  file: Buffer
  /** Its path below the root, with `/`; a byte that is not UTF-8 is written as `\xE9`. */
  path: string
  id: string
  /** The id that earlier versions stored it under. */
  idWithoutRoot: string
  mime: string
  size: number
}

/** A file or folder that is not read, and the reason. */
export interface Remark {
  path: string
  reason: string
}

export interface FoundImages {
  /** Absolute path of the folder that the paths are below. */
  root: string
  images: ImageFile[]
  leftOut: Remark[]
  unreadable: Remark[]
}

/** The media type by the file's extension; undefined if that is not one of an image. */
export function mimeOf(name: string): string | undefined {
  return MIME_BY_EXTENSION[/\.([^./\\]+)$/.exec(name)?.[1]?.toLowerCase() ?? '']
}

/**
 * Lists image files below a folder, sorted by path, or one file, whose root is its folder. Leaves
 * out hidden files and folders, and those of EXCLUDED_NAMES and `exclude`. Does not follow links to
 * folders, which could form a loop.
 *
 * @param exclude - names, or paths below the root, with `*`, `**` and `?`
 * @throws Error if `target` does not exist
 */
export async function imageFiles(
  target: string,
  exclude: readonly string[] = [],
): Promise<FoundImages> {
  const stats = await stat(target).catch((error: Error) => {
    if (!target.includes('\ufffd')) throw error
    throw new Error(
      `There is no ${target}. A name that is not UTF-8 cannot be an argument: index its folder.`,
      { cause: error },
    )
  })
  const root = await realpath(stats.isDirectory() ? target : dirname(target))
  const found: FoundImages = { root, images: [], leftOut: [], unreadable: [] }
  const excludes = [...EXCLUDED_NAMES, ...exclude].map(matcher)

  const below = (names: readonly Buffer[]): Buffer => joined([Buffer.from(root), ...names])
  const add = (names: readonly Buffer[], { size }: Stats): void => {
    const { path, isExact } = textOf(names)
    const mime = mimeOf(path)
    if (mime === undefined) {
      found.leftOut.push({ path, reason: NO_IMAGE })
      return
    }
    const id = idOfFile(root, path, isExact ? undefined : joined(names))
    found.images.push({ file: below(names), path, id, idWithoutRoot: idOfPath(path), mime, size })
  }
  async function walk(above: readonly Buffer[]): Promise<void> {
    const entries = await readdir(below(above), { withFileTypes: true, encoding: 'buffer' })
    for (const entry of entries.sort((a, b) => Buffer.compare(a.name, b.name))) {
      const names = [...above, entry.name]
      const { path } = textOf(names)
      try {
        if (entry.name[0] === 0x2e) found.leftOut.push({ path, reason: 'it is hidden' })
        else if (excludes.some((matches) => matches(path)))
          found.leftOut.push({ path, reason: 'it is excluded' })
        else if (entry.isDirectory()) await walk(names)
        else {
          const stats = await stat(below(names))
          if (stats.isFile()) add(names, stats)
          else
            found.leftOut.push({
              path,
              reason: stats.isDirectory() ? 'it is a link to a folder' : 'it is no file',
            })
        }
      } catch (error) {
        found.unreadable.push({ path, reason: (error as Error).message })
      }
    }
  }
  if (stats.isDirectory()) await walk([])
  else if (stats.isFile()) add([Buffer.from(basename(target))], stats)
  else throw new Error(`${target} is neither a file nor a folder.`)
  return found
}

function joined(names: readonly Buffer[]): Buffer {
  return Buffer.concat(names.flatMap((name, i) => (i === 0 ? [name] : [Buffer.from('/'), name])))
}

/** The path as text, and whether its names are UTF-8. */
function textOf(names: readonly Buffer[]): { path: string; isExact: boolean } {
  const texts = names.map((name) => {
    const text = name.toString('utf8')
    if (Buffer.from(text).equals(name)) return { text, isExact: true }
    const escaped = name
      .toString('latin1')
      .replace(/[\x80-\xff]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16).toUpperCase()}`)
    return { text: escaped, isExact: false }
  })
  return {
    path: texts.map(({ text }) => text).join('/'),
    isExact: texts.every(({ isExact }) => isExact),
  }
}

/** Whether a path matches: a pattern with a slash as a whole, one without by its last name. */
function matcher(pattern: string): (path: string) => boolean {
  const trimmed = pattern.replace(/^\.?\//, '').replace(/\/+$/, '')
  const source = trimmed.replace(/\*\*\/?|[*?]|[\\^$.|+()[\]{}]/g, (found) => {
    if (found === '**/') return '(?:.*/)?'
    if (found === '**') return '.*'
    if (found === '*') return '[^/]*'
    return found === '?' ? '[^/]' : `\\${found}`
  })
  const expression = new RegExp(`^${source}$`, 'u')
  const isPath = trimmed.includes('/')
  return (path) => expression.test(isPath ? path : basename(path))
}

const MAX_ID_LENGTH = 256
const NOT_IN_AN_ID = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_C}\p{NChar}]/gu

/** The path if it is a valid id, otherwise a valid id like it that ends in a hash of the path. */
export function idOfPath(path: string, hashed: string | Buffer | undefined = undefined): string {
  const plain = path.replace(NOT_IN_AN_ID, '_').trim()
  if (plain === path && path.length <= MAX_ID_LENGTH && hashed === undefined) return path
  return `${[...plain].slice(-200).join('').trim()}~${hashOf(hashed ?? path)}`
}

/**
 * The id of a file: name and hash of its root, then its path. Files of two folders never share one.
 *
 * @param bytes - the path as bytes, if it is not UTF-8
 */
export function idOfFile(root: string, path: string, bytes?: Buffer): string {
  const label = `${basename(root)}~${hashOf(root).slice(0, 6)}`
  const id = `${label}/${path}`
  return idOfPath(id, bytes && Buffer.concat([Buffer.from(`${label}/`), bytes]))
}

function hashOf(value: string | Buffer): string {
  return createHash('sha256').update(value).digest('hex').slice(0, 12)
}
