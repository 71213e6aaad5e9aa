/** Makes the items of a service follow the image files of folders. */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { ServiceError, type Client } from '../client.js'
import { firstNames, printLine, startProgress, type Terminal } from '../terminal/terminal.js'
import { filePayload, isCurrent, renamedPayload } from './file-payload.js'
import { goneOfKnown, goneOfRoots, isGone, type GoneItem } from './gone.js'
import { imageFiles, type FoundImages, type ImageFile, type Remark } from './image-files.js'
import type { MetadataReader } from './metadata-reader.js'

/** Enough for the service to fill batches. */
const CONCURRENT_UPLOADS = 8
/** Replies that say that the next file would fail too: no service, no valid key, no space. */
const FATAL = [401, 403, 507]
/** Replies that may differ for the same file later. */
const PASSING = [0, 408, 412, 429]

export interface IndexOutcome {
  added: number
  /** Changed files, whose items existed. */
  replaced: number
  /** Files with the content of one that is gone. They keep what clients gave to its item. */
  renamed: number
  /** Items whose file is gone, those of renamed files included. */
  removed: number
  skipped: number
  /** Files that could not be read or stored, with the reason. */
  failed: Remark[]
}

export interface IndexOptions {
  /** Names or paths to leave out. */
  exclude?: string[]
  /** Larger files are not read. */
  maxBytes: number
  /** Whether to name what is left out. */
  showLeftOut?: boolean
  /** Whether to remove the items of the folders whose file is gone. */
  prune?: boolean
  /** Asked before items are removed; without it they are. */
  confirm?: (question: string) => Promise<boolean>
  /** Stops after the files in progress. */
  signal?: AbortSignal
}

interface RootedImage extends ImageFile {
  root: string
}

/** Whether every further file would fail too: no service, no valid key, or a full disk. */
async function isFatal(error: unknown, client: Client): Promise<boolean> {
  if (!(error instanceof ServiceError)) return false
  return FATAL.includes(error.status) || (error.status === 0 && !(await client.isAlive()))
}

export class Indexer {
  readonly #client: Client
  readonly #terminal: Terminal
  readonly #options: IndexOptions
  readonly #metadata: MetadataReader
  /** Files that the service has stored or refused in this version, by id. */
  readonly #known = new Map<string, RootedImage>()
  #passes = 0

  constructor(client: Client, terminal: Terminal, options: IndexOptions, metadata: MetadataReader) {
    this.#client = client
    this.#terminal = terminal
    this.#options = options
    this.#metadata = metadata
  }

  /**
   * Stores the images that are new or changed since the last pass. A file that fails does not stop
   * the others. The first pass removes items only with `prune`, each further one those of files
   * that are gone since.
   *
   * @throws ServiceError when the service can store no more files; stored files stay
   */
  async pass(folders: readonly FoundImages[]): Promise<IndexOutcome> {
    const isFirst = this.#passes === 0
    const outcome = { added: 0, replaced: 0, renamed: 0, removed: 0, skipped: 0, failed: [] }
    const images = new Map(
      folders.flatMap(({ root, images }) =>
        images.map((image): [string, RootedImage] => [image.id, { ...image, root }]),
      ),
    )
    if (isFirst) for (const { unreadable } of folders) this.#fail(outcome, unreadable)
    const gone = isFirst
      ? await this.#goneAtFirst(folders, images, outcome)
      : await goneOfKnown(this.#client, this.#known, images)
    const changed = [...images.values()].filter(
      ({ id, version }) => this.#known.get(id)?.version !== version,
    )
    await this.#store(changed, gone, outcome)
    if (this.#options.signal?.aborted !== true) await this.#remove(gone, isFirst, outcome)
    this.#passes += 1
    return outcome
  }

  /** The items of the folders whose file is gone, if they are to be removed. */
  async #goneAtFirst(
    folders: readonly FoundImages[],
    images: ReadonlyMap<string, RootedImage>,
    outcome: IndexOutcome,
  ): Promise<GoneItem[]> {
    if (this.#options.prune !== true) return []
    const gone = await goneOfRoots(this.#client, folders, images)
    const empty = folders.filter(({ images }) => images.length === 0).map(({ root }) => root)
    for (const path of empty) {
      const count = gone.filter(({ root }) => root === path).length
      const reason = `no image is in it, but ${count} items are; none is removed, since its disk may not be mounted`
      if (count > 0) this.#fail(outcome, [{ path, reason }])
    }
    return gone.filter(({ root }) => !empty.includes(root))
  }

  async #store(
    images: readonly RootedImage[],
    gone: readonly GoneItem[],
    outcome: IndexOutcome,
  ): Promise<void> {
    if (images.length === 0) return
    const progress = startProgress(this.#terminal, images.length, 'images')
    const former = new Map(gone.map((item) => [item.sha256, item]))
    const queue = images.values()
    let fatal: unknown
    const worker = async (): Promise<void> => {
      for (const image of queue) {
        if (fatal !== undefined || this.#options.signal?.aborted === true) return
        const remark = (reason: string): void => progress.remark(`${image.path}: ${reason}`)
        try {
          outcome[await this.#storeFile(image, former, remark)] += 1
          this.#known.set(image.id, image)
        } catch (error) {
          if (await isFatal(error, this.#client)) {
            fatal = error
            return
          }
          const isRefused = error instanceof ServiceError && error.status < 500
          if (isRefused && !PASSING.includes(error.status)) this.#known.set(image.id, image)
          const reason = (error as Error).message
          this.#fail(outcome, [{ path: image.path, reason }], (line) => progress.remark(line))
        }
        progress.advance()
      }
    }
    await Promise.all(Array.from({ length: CONCURRENT_UPLOADS }, worker))
    progress.stop()
    if (fatal === undefined) return
    const count = outcome.added + outcome.replaced + outcome.renamed
    if (this.#passes === 0)
      printLine(this.#terminal.err, `Stopped after ${count} were stored. The same command resumes.`)
    throw fatal as Error
  }

  /** @param former - items of files that are gone, by their sha256; a used one is taken out */
  async #storeFile(
    { file, path, root, id, idWithoutRoot, mime, sidecar }: RootedImage,
    former: Map<string, GoneItem>,
    remark: (reason: string) => void,
  ): Promise<'added' | 'replaced' | 'renamed' | 'skipped'> {
    const bytes = await readFile(file)
    const origin = { root, path, sha256: createHash('sha256').update(bytes).digest('hex') }
    const metadata = await this.#metadata.metadata(bytes, sidecar, remark)
    const stored = await this.#client.item(id)
    if (stored !== undefined) {
      if (isCurrent(stored.payload, origin, metadata)) return 'skipped'
      await this.#client.put(id, bytes, mime, filePayload(id, stored.payload, origin, metadata))
      return 'replaced'
    }
    const renamed = former.get(origin.sha256)
    former.delete(origin.sha256)
    if (renamed !== undefined) {
      await this.#client.put(id, bytes, mime, renamedPayload(renamed.payload, origin, metadata))
      return 'renamed'
    }
    const earlier = (await this.#client.item(idWithoutRoot))?.payload
    const isSame = earlier?.['sha256'] === origin.sha256 && earlier['path'] === path
    if (isSame && earlier['root'] === undefined) return 'skipped'
    await this.#client.put(id, bytes, mime, filePayload(id, null, origin, metadata))
    return 'added'
  }

  async #remove(gone: readonly GoneItem[], isFirst: boolean, outcome: IndexOutcome): Promise<void> {
    if (gone.length === 0) return
    const names = firstNames(gone.map(({ path }) => path))
    const count = `${gone.length} ${gone.length === 1 ? 'item' : 'items'}`
    printLine(this.#terminal.err, `${count} whose file is gone${names}`)
    const { confirm } = this.#options
    if (isFirst && confirm !== undefined && !(await confirm(`Remove ${count}?`))) return
    for (const { id, file } of gone) {
      if (this.#options.signal?.aborted === true) return
      this.#known.delete(id)
      // It may have come back.
      if (!(await isGone(file))) continue
      await this.#client.remove(id)
      outcome.removed += 1
    }
  }

  #fail(
    outcome: IndexOutcome,
    remarks: readonly Remark[],
    print = (line: string): void => printLine(this.#terminal.err, line),
  ): void {
    outcome.failed.push(...remarks)
    for (const { path, reason } of remarks) print(`not added: ${path}: ${reason}`)
  }
}

/**
 * The images of a folder or a file. Those that are too large are among the unreadable files.
 *
 * @param print - gets the number of images, and what is left out
 * @throws Error for a path that does not exist
 */
export async function findImages(
  path: string,
  { exclude, maxBytes, showLeftOut = false }: IndexOptions,
  print: (line: string) => void,
): Promise<FoundImages> {
  const found = await imageFiles(path, exclude)
  const count = found.leftOut.length
  const hint = showLeftOut ? '' : '; --show-left-out names them'
  const leftOut = count > 0 ? ` (${count} files or folders are left out${hint})` : ''
  print(`${found.images.length} images in ${path}${leftOut}`)
  if (showLeftOut)
    for (const { path, reason } of found.leftOut) print(`left out: ${path}: ${reason}`)
  const tooLarge = found.images.filter(({ size }) => size > maxBytes)
  return {
    ...found,
    images: found.images.filter(({ size }) => size <= maxBytes),
    unreadable: [
      ...found.unreadable,
      ...tooLarge.map(({ path, size }) => ({
        path,
        reason: `it has ${size} bytes; MAX_BODY_BYTES is ${maxBytes}`,
      })),
    ],
  }
}

/** The outcome in one line, without counts of 0 except for added and stored images. */
export function summaryLine({
  added,
  replaced,
  renamed,
  removed,
  skipped,
  failed,
}: IndexOutcome): string {
  const counts: [number, string][] = [
    [replaced, 'replaced'],
    [renamed, 'renamed'],
    [removed, 'removed'],
  ]
  const changes = counts.filter(([count]) => count > 0).map(([count, what]) => `, ${count} ${what}`)
  const failures = failed.length > 0 ? `, ${failed.length} not added` : ''
  return `${added} added${changes.join('')}, ${skipped} already stored${failures}`
}
