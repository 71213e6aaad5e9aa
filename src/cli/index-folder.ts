/**
 * `tandem index`: stores the images of a folder. The id of an item is the file's path below the
 * folder, and its payload holds the file's sha256. A file whose item has the same hash is skipped,
 * so a repeated command resumes.
 */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { readConfig } from '../config.js'
import { ServiceError, type Client } from './client.js'
import { idOfPath, imageFiles, type ImageFile } from './image-files.js'
import { withServiceOptions, type ServiceOptions } from './options.js'
import { withService } from './service.js'
import { printLine, startProgress, type Terminal } from './terminal.js'

/** Enough for the service to fill batches. */
const CONCURRENT_UPLOADS = 8

export interface IndexOutcome {
  added: number
  skipped: number
  /** Files that could not be read or stored, with the reason. */
  failed: { path: string; reason: string }[]
}

export function addIndexCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command('index')
    .description('store the images of a folder; skips those that are stored and unchanged')
    .argument('<folder>', 'folder of images, with its subfolders')
  withServiceOptions(command).action(async (folder: string, options: ServiceOptions) => {
    const outcome = await withService(options, readConfig(process.env), (client) =>
      indexImages(client, folder, terminal),
    )
    printLine(terminal.out, summaryLine(outcome))
    if (outcome.failed.length > 0) process.exitCode = 1
  })
}

/** Stores one file unless it is stored already. */
async function indexFile(
  client: Client,
  { file, path, mime }: ImageFile,
): Promise<'added' | 'skipped'> {
  const bytes = await readFile(file)
  const id = idOfPath(path)
  const hash = createHash('sha256').update(bytes).digest('hex')
  const stored = await client.item(id)
  if (stored?.payload?.['sha256'] === hash) return 'skipped'
  await client.put(id, bytes, mime, { path, sha256: hash })
  return 'added'
}

/** Whether every further file would fail too: no service, no valid key, or a full disk. */
async function isFatal(error: unknown, client: Client): Promise<boolean> {
  if (!(error instanceof ServiceError)) return false
  return [401, 403, 507].includes(error.status) || (error.status === 0 && !(await client.isAlive()))
}

/**
 * Stores every image below `folder`. A file that fails does not stop the others.
 *
 * @throws ServiceError when the service can store no more files; stored files stay
 */
export async function indexImages(
  client: Client,
  folder: string,
  terminal: Terminal,
): Promise<IndexOutcome> {
  const outcome: IndexOutcome = { added: 0, skipped: 0, failed: [] }
  const fail = (path: string, reason: string, print: (line: string) => void): void => {
    outcome.failed.push({ path, reason })
    print(`not added: ${path}: ${reason}`)
  }
  const found = await imageFiles(folder, (path, reason) =>
    fail(path, reason, (line) => printLine(terminal.err, line)),
  )
  const others = found.others > 0 ? ` (${found.others} other files are ignored)` : ''
  printLine(terminal.err, `${found.images.length} images in ${folder}${others}`)

  const progress = startProgress(terminal, found.images.length, 'images')
  const queue = found.images.values()
  let fatal: unknown
  const worker = async (): Promise<void> => {
    for (const image of queue) {
      if (fatal !== undefined) return
      try {
        outcome[await indexFile(client, image)] += 1
      } catch (error) {
        if (await isFatal(error, client)) {
          fatal = error
          return
        }
        fail(image.path, (error as Error).message, (line) => progress.remark(line))
      }
      progress.advance()
    }
  }
  await Promise.all(Array.from({ length: CONCURRENT_UPLOADS }, worker))
  progress.stop()
  if (fatal !== undefined) {
    printLine(terminal.err, `Stopped after ${outcome.added} added. The same command resumes.`)
    throw fatal as Error
  }
  return outcome
}

export function summaryLine({ added, skipped, failed }: IndexOutcome): string {
  const failures = failed.length > 0 ? `, ${failed.length} not added` : ''
  return `${added} added, ${skipped} already stored${failures}`
}
