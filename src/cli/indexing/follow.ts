/** `tandem index --watch`: passes over the folders whenever their files change. */
import { stat } from 'node:fs/promises'
import { ServiceError } from '../client.js'
import { printLine, type Terminal } from '../terminal/terminal.js'
import { FolderWatch } from './folder-watch.js'
import type { FoundImages } from './image-files.js'
import { summaryLine, type Indexer, type IndexOutcome } from './indexer.js'

/** Network drives report no changes of others. */
const RESCAN_MS = 300_000
/** After a pass that failed. */
const RETRY_MS = 5000

export interface FollowOptions {
  signal: AbortSignal
  /** The images of all paths. */
  find: () => Promise<FoundImages[]>
  retryMs?: number
}

/**
 * Makes a pass at once and after each change, until the signal aborts. Waits while the service is
 * not reachable, and while a folder is missing.
 *
 * @throws ServiceError if the service does not accept the key; Error for a path that does not exist
 *   at the start
 */
export async function follow(
  indexer: Indexer,
  terminal: Terminal,
  { signal, find, retryMs = RETRY_MS }: FollowOptions,
): Promise<void> {
  const watch = new FolderWatch()
  let roots: Map<string, string> | undefined
  let trouble: string | undefined
  try {
    while (!signal.aborted) {
      let waitMs = RESCAN_MS
      try {
        if (roots !== undefined) await expectSame(roots)
        const found = await find()
        roots ??= await identitiesOf(found)
        const unwatched = startWatching(watch, found)
        const outcome = await indexer.pass(found)
        if (trouble !== undefined) printLine(terminal.err, 'Files are followed again.')
        trouble = undefined
        if (hasChanged(outcome)) printLine(terminal.out, summaryLine(outcome))
        if (outcome.failed.length > 0 || unwatched !== undefined) waitMs = 12 * retryMs
      } catch (error) {
        const isRefused = error instanceof ServiceError && [401, 403].includes(error.status)
        if (isRefused || roots === undefined) throw error
        const { message } = error as Error
        if (message !== trouble)
          printLine(terminal.err, `${message} Tried again every ${retryMs / 1000} s.`)
        trouble = message
        waitMs = retryMs
      }
      await watch.changes(waitMs, signal)
    }
  } finally {
    watch.close()
  }
}

/** The reason why changes are not reported, if the system allows no more watches. */
function startWatching(watch: FolderWatch, found: readonly FoundImages[]): string | undefined {
  try {
    watch.follow(found.flatMap(({ folders }) => folders))
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

function hasChanged({ added, replaced, renamed, removed, failed }: IndexOutcome): boolean {
  return added + replaced + renamed + removed + failed.length > 0
}

/** Device and number of each root: a disk that is not mounted leaves another folder behind. */
async function identitiesOf(found: readonly FoundImages[]): Promise<Map<string, string>> {
  const identities = found.map(
    async ({ root }) => [root, await identityOf(root)] satisfies [string, string],
  )
  return new Map(await Promise.all(identities))
}

async function identityOf(folder: string): Promise<string> {
  const { dev, ino } = await stat(folder)
  return `${dev}:${ino}`
}

async function expectSame(roots: ReadonlyMap<string, string>): Promise<void> {
  for (const [root, identity] of roots) {
    const found = await identityOf(root).catch(() => undefined)
    if (found !== identity)
      throw new Error(`${root} is missing, or another folder than before; no item is removed.`)
  }
}
