/**
 * `tandem index`: stores the images of a folder. An item's id is the file's path below the folder,
 * and its payload holds the file's sha256: a file whose item has the same hash is skipped, so the
 * command resumes where it was ended and costs little when run again.
 */
import { readFile } from 'node:fs/promises'
import { ServiceError, type Client } from './client.js'
import { idOfPath, imageFiles, sha256, type ImageFile } from './image-files.js'
import { printLine, startProgress, type Terminal } from './terminal.js'

/** Uploads in flight: enough for the service to fill batches. */
const AT_ONCE = 8

export interface IndexOutcome {
  added: number
  skipped: number
  /** Files that could not be read or stored, with the reason. */
  failed: { path: string; reason: string }[]
}

/** Stores one file unless it is stored already. */
async function indexFile(
  client: Client,
  { file, path, mime }: ImageFile,
): Promise<'added' | 'skipped'> {
  const bytes = await readFile(file)
  const id = idOfPath(path)
  const hash = sha256(bytes)
  const stored = await client.item(id)
  if (stored?.payload?.['sha256'] === hash) return 'skipped'
  await client.put(id, bytes, mime, { path, sha256: hash })
  return 'added'
}

/** Whether going on makes no sense: the service has gone, wants a key, or has no space left. */
async function isFatal(error: unknown, client: Client): Promise<boolean> {
  if (!(error instanceof ServiceError)) return false
  return [401, 403, 507].includes(error.status) || (error.status === 0 && !(await client.isAlive()))
}

/**
 * Stores every image below `folder`, going on past files that fail.
 *
 * @throws ServiceError when the service cannot take any more files; what was stored stays stored
 */
export async function indexFolder(
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
  const others = found.others > 0 ? ` (other files, left out: ${found.others})` : ''
  printLine(terminal.err, `${found.images.length} images in ${folder}${others}`)

  const progress = startProgress(terminal, found.images.length, 'images')
  const waiting = found.images.values()
  let fatal: unknown
  const worker = async (): Promise<void> => {
    for (const image of waiting) {
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
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
  progress.stop()
  if (fatal !== undefined) {
    printLine(
      terminal.err,
      `Stopped after ${outcome.added} added. The same command goes on from there.`,
    )
    throw fatal as Error
  }
  return outcome
}

/** The last line: what happened, in numbers. */
export function summaryLine({ added, skipped, failed }: IndexOutcome): string {
  const failures = failed.length > 0 ? `, ${failed.length} not added` : ''
  return `${added} added, ${skipped} already stored${failures}`
}
