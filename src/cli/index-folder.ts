/**
 * `tandem index`: stores the images of folders. The id of an item has the folder, and the path of
 * the file below it; its payload holds both and the sha256. A file whose item has the same hash is
 * skipped, so a repeated command resumes.
 */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { readConfig } from '../config.js'
import type { Payload } from '../http/schemas/fields.js'
import { ServiceError, type Client } from './client.js'
import { imageFiles, type FoundImages, type ImageFile, type Remark } from './image-files.js'
import { withServiceOptions, type ServiceOptions } from './options.js'
import { withService } from './service.js'
import { printLine, startProgress, type Terminal } from './terminal.js'

/** Enough for the service to fill batches. */
const CONCURRENT_UPLOADS = 8

export interface IndexOutcome {
  added: number
  /** Changed files, whose items existed. */
  replaced: number
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
}

interface CommandOptions extends ServiceOptions {
  exclude: string[]
  dryRun?: boolean
  showLeftOut?: boolean
}

export function addIndexCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command('index')
    .description('store the images of folders; skips those that are stored and unchanged')
    .argument('<paths...>', 'folders of images, with their subfolders, or image files')
    .option(
      '--exclude <pattern>',
      'leave out names or paths such as "raw" or "2024/**/*.gif"; repeatable',
      (pattern: string, others: string[]) => [...others, pattern],
      [],
    )
    .option('--show-left-out', 'name each file and folder that is left out, with the reason')
    .option('--dry-run', 'name the files and their ids, and store nothing')
  withServiceOptions(command).action(async (paths: string[], options: CommandOptions) => {
    const config = readConfig(process.env)
    const { exclude, dryRun, showLeftOut = false } = options
    const indexOptions = { exclude, showLeftOut, maxBytes: config.maxBodyBytes }
    const failed =
      dryRun === true
        ? await listImages(paths, terminal, indexOptions)
        : await withService(options, config, async (client) => {
            const outcome = await indexImages(client, paths, terminal, indexOptions)
            printLine(terminal.out, summaryLine(outcome))
            return outcome.failed
          })
    if (failed.length > 0) process.exitCode = 1
  })
}

/**
 * Prints each image that `indexImages` would send, with its id.
 *
 * @returns what it could not send
 */
export async function listImages(
  paths: readonly string[],
  terminal: Terminal,
  options: IndexOptions,
): Promise<Remark[]> {
  const failed: Remark[] = []
  for (const path of paths) {
    const found = await findImages(path, terminal, options)
    failed.push(...found.unreadable)
    for (const { path, id } of found.images) printLine(terminal.out, `${path} as ${id}`)
  }
  for (const { path, reason } of failed) printLine(terminal.err, `not added: ${path}: ${reason}`)
  return failed
}

/** The images of a folder. Those that are too large are among the unreadable files. */
async function findImages(
  folder: string,
  terminal: Terminal,
  { exclude, maxBytes, showLeftOut = false }: IndexOptions,
): Promise<FoundImages> {
  const found = await imageFiles(folder, exclude)
  const tooLarge = found.images.filter(({ size }) => size > maxBytes)
  const count = found.leftOut.length
  const hint = showLeftOut ? '' : '; --show-left-out names them'
  const leftOut = count > 0 ? ` (${count} files or folders are left out${hint})` : ''
  printLine(terminal.err, `${found.images.length} images in ${folder}${leftOut}`)
  if (showLeftOut) {
    for (const { path, reason } of found.leftOut)
      printLine(terminal.err, `left out: ${path}: ${reason}`)
  }
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

/** Stores one file unless it is stored already. */
async function indexFile(
  client: Client,
  root: string,
  { file, path, id, idWithoutRoot, mime }: ImageFile,
): Promise<'added' | 'replaced' | 'skipped'> {
  const bytes = await readFile(file)
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  const own = { path, root, sha256 }
  const stored = await client.item(id)
  if (stored === undefined) {
    const earlier = (await client.item(idWithoutRoot))?.payload
    const isSame = earlier?.['sha256'] === sha256 && earlier['path'] === path
    if (isSame && earlier['root'] === undefined) return 'skipped'
    await client.put(id, bytes, mime, own)
    return 'added'
  }
  if (stored.payload?.['root'] === root && stored.payload['sha256'] === sha256) return 'skipped'
  await client.put(id, bytes, mime, mergedPayload(id, stored.payload, own))
  return 'replaced'
}

/**
 * The stored payload with the values of `index`.
 *
 * @throws Error if a client gave one of these fields another meaning
 */
function mergedPayload(id: string, stored: Payload | null, own: Payload): Payload {
  const isOwn = stored?.['root'] === own['root']
  const taken = isOwn ? undefined : Object.keys(own).find((name) => stored?.[name] !== undefined)
  if (taken === undefined) return { ...stored, ...own }
  throw new Error(`the item "${id}" has a field "${taken}" that a client gave, which would be lost`)
}

/** Whether every further file would fail too: no service, no valid key, or a full disk. */
async function isFatal(error: unknown, client: Client): Promise<boolean> {
  if (!(error instanceof ServiceError)) return false
  return [401, 403, 507].includes(error.status) || (error.status === 0 && !(await client.isAlive()))
}

/**
 * Stores every image of `paths`. A file that fails does not stop the others.
 *
 * @throws Error for a path that does not exist, before anything is stored
 * @throws ServiceError when the service can store no more files; stored files stay
 */
export async function indexImages(
  client: Client,
  paths: readonly string[],
  terminal: Terminal,
  options: IndexOptions,
): Promise<IndexOutcome> {
  const outcome: IndexOutcome = { added: 0, replaced: 0, skipped: 0, failed: [] }
  const fail = (remark: Remark, print: (line: string) => void): void => {
    outcome.failed.push(remark)
    print(`not added: ${remark.path}: ${remark.reason}`)
  }
  const images = new Map<string, { root: string; image: ImageFile }>()
  for (const path of paths) {
    const found = await findImages(path, terminal, options)
    for (const remark of found.unreadable) fail(remark, (line) => printLine(terminal.err, line))
    for (const image of found.images) images.set(image.id, { root: found.root, image })
  }

  const progress = startProgress(terminal, images.size, 'images')
  const queue = images.values()
  let fatal: unknown
  const worker = async (): Promise<void> => {
    for (const { root, image } of queue) {
      if (fatal !== undefined) return
      try {
        outcome[await indexFile(client, root, image)] += 1
      } catch (error) {
        if (await isFatal(error, client)) {
          fatal = error
          return
        }
        const reason = (error as Error).message
        fail({ path: image.path, reason }, (line) => progress.remark(line))
      }
      progress.advance()
    }
  }
  await Promise.all(Array.from({ length: CONCURRENT_UPLOADS }, worker))
  progress.stop()
  if (fatal !== undefined) {
    const count = outcome.added + outcome.replaced
    printLine(terminal.err, `Stopped after ${count} were stored. The same command resumes.`)
    throw fatal as Error
  }
  return outcome
}

export function summaryLine({ added, replaced, skipped, failed }: IndexOutcome): string {
  const changed = replaced > 0 ? `, ${replaced} replaced` : ''
  const failures = failed.length > 0 ? `, ${failed.length} not added` : ''
  return `${added} added${changed}, ${skipped} already stored${failures}`
}
