/** The image files of a folder, and their sidecars. */
import type { Stats } from 'node:fs'
import { readdir, realpath, stat } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { idOfFile, idOfPath } from './file-ids.js'
import type { SidecarKind } from './metadata.js'
import { Sidecars } from './sidecars.js'

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

/** Folders of thumbnails, previews, deleted files, packages and archives' remains. */
const EXCLUDED_NAMES = [
  '@eaDir',
  '@Recycle',
  '#recycle',
  '#snapshot',
  '@Recently-Snapshot',
  '$RECYCLE.BIN',
  'System Volume Information',
  'lost+found',
  '__MACOSX',
  'node_modules',
  // Libraries of Photos, iPhoto, Aperture and Lightroom; their originals are in other folders.
  '**/*.photoslibrary/resources',
  '**/*.photolibrary/Thumbnails',
  '**/*.aplibrary/Thumbnails',
  '**/*.aplibrary/Previews',
  '*.lrdata',
  'iPod Photo Cache',
]
/** Instead of the words of the file system. */
const LINK_ERRORS: Readonly<Record<string, string>> = {
  ENOENT: 'it is a link to a file that does not exist',
  ELOOP: 'it is a link that leads to itself',
}
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
  /** A file of captions beside it. */
  sidecar?: Sidecar
  /** Changes with the file and its sidecar: sizes and times of modification. */
  version: string
}

export interface Sidecar {
  file: Buffer
  name: string
  kind: SidecarKind
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
  /** The folders that were read, the root included. */
  folders: Buffer[]
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
  if (!stats.isDirectory() && !stats.isFile())
    throw new Error(`${target} is neither a file nor a folder.`)
  const root = await realpath(stats.isDirectory() ? target : dirname(target))
  const only = stats.isDirectory() ? undefined : Buffer.from(basename(target))
  const walk = new Walk(root, [...EXCLUDED_NAMES, ...exclude].map(matcher))
  await walk.folder([], only)
  return walk.found
}

class Walk {
  readonly found: FoundImages
  readonly #excludes: readonly ((path: string) => boolean)[]

  constructor(root: string, excludes: readonly ((path: string) => boolean)[]) {
    this.found = { root, folders: [], images: [], leftOut: [], unreadable: [] }
    this.#excludes = excludes
  }

  /** @param only - the name of the one file to find */
  async folder(above: readonly Buffer[], only?: Buffer): Promise<void> {
    const folder = this.#below(above)
    const entries = await readdir(folder, { withFileTypes: true, encoding: 'buffer' })
    this.found.folders.push(folder)
    const names = entries.map(({ name }) => name)
    const sidecars = new Sidecars(names, (name) => mimeOf(name) !== undefined)
    for (const entry of entries.sort((a, b) => Buffer.compare(a.name, b.name))) {
      const below = [...above, entry.name]
      const { path } = textOf(below)
      const leaveOut = (reason: string): unknown => this.found.leftOut.push({ path, reason })
      try {
        if (only !== undefined && !only.equals(entry.name)) continue
        if (entry.name[0] === 0x2e && only === undefined) leaveOut('it is hidden')
        else if (only === undefined && this.#excludes.some((matches) => matches(path)))
          leaveOut('it is excluded')
        else if (entry.isDirectory()) await this.folder(below)
        else {
          const stats = await stat(this.#below(below))
          if (stats.isDirectory()) leaveOut('it is a link to a folder')
          else if (!stats.isFile()) leaveOut('it is no file')
          else if (mimeOf(path) !== undefined && stats.size === 0)
            this.found.unreadable.push({ path, reason: 'it is empty' })
          else if (mimeOf(path) !== undefined) await this.#add(below, stats, sidecars)
          else if (!sidecars.isOfAnImage(entry.name)) leaveOut(NO_IMAGE)
        }
      } catch (error) {
        const { code = '', message } = error as NodeJS.ErrnoException
        const reason = (entry.isSymbolicLink() ? LINK_ERRORS[code] : undefined) ?? message
        this.found.unreadable.push({ path, reason })
      }
    }
  }

  async #add(names: readonly Buffer[], stats: Stats, sidecars: Sidecars): Promise<void> {
    const { root, images } = this.found
    const { path, isExact } = textOf(names)
    const image = {
      file: this.#below(names),
      path,
      id: idOfFile(root, path, isExact ? undefined : joined(names)),
      idWithoutRoot: idOfPath(path),
      mime: mimeOf(path) ?? '',
      size: stats.size,
    }
    const beside = sidecars.of(names.at(-1) as Buffer)
    const file = beside && this.#below([...names.slice(0, -1), beside.name])
    const ofSidecar = file && (await stat(file).catch(() => undefined))
    if (beside === undefined || file === undefined || ofSidecar?.isFile() !== true) {
      images.push({ ...image, version: versionOf(stats) })
      return
    }
    const name = textOf([beside.name]).path
    const sidecar = { file, name, kind: beside.kind, size: ofSidecar.size }
    images.push({ ...image, sidecar, version: `${versionOf(stats)} ${versionOf(ofSidecar)}` })
  }

  #below(names: readonly Buffer[]): Buffer {
    return joined([Buffer.from(this.found.root), ...names])
  }
}

function versionOf({ size, mtimeMs }: Stats): string {
  return `${size}@${mtimeMs}`
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
