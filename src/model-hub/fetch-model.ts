/** Fetches the files of a model that are needed, and nothing else. */
import { setTimeout as sleep } from 'node:timers/promises'
import { diskSpace } from '../files/disk-space.js'
import { DataFolderLockedError, lockDataFolder, type DataFolderLock } from '../files/lock.js'
import { ModelCache } from './cache.js'
import { HubClient, type RemoteFile } from './client.js'
import { bytesPresent, download } from './download.js'
import { HubError, isSafeName, type HubModel, type HubSettings } from './hub.js'

export interface FetchOptions {
  settings: HubSettings
  /** Picks the files that are needed; throws where the model has none that fit. */
  choose: (names: readonly string[]) => string[]
  /** Gets a sentence at each step, and every few seconds. */
  progress?: (sentence: string) => void
  /** Bytes that are free in the cache. */
  freeBytes?: (folder: string) => Promise<number>
  timeoutMs?: number
  pauseMs?: number
}

export interface FetchedModel {
  /** Folder of the snapshot in the cache. */
  folder: string
  commit: string
}

const MIB = 2 ** 20
/** An ONNX graph and its weights have less. */
const MAX_FILE_BYTES = 2 ** 31
/** Left free for everybody else. */
const SPARE_BYTES = 64 * MIB
const LINE_INTERVAL_MS = 5000
const LOCK_PAUSE_MS = 500
const FULL = new Set(['ENOSPC', 'EDQUOT'])

/**
 * The folder of a model in the hub's cache, with the chosen files.
 * @throws HubError when it cannot be fetched; what arrived is kept for the next attempt
 */
export async function fetchModel(model: HubModel, options: FetchOptions): Promise<FetchedModel> {
  const { settings, progress = () => undefined, timeoutMs } = options
  const cache = new ModelCache(settings.cache, model)
  if (settings.offline) return fromCache(model, cache)
  const client = new HubClient(settings, timeoutMs)
  try {
    const { commit, names } = await client.describe(model)
    const hostile = names.find((name) => !isSafeName(name))
    if (hostile !== undefined)
      throw new HubError(
        `${model.id} lists the file ${JSON.stringify(hostile).slice(0, 100)}, whose name leads out of its folder. Nothing was fetched.`,
      )
    const chosen = options.choose(names)
    progress(`Fetches ${chosen.length} of ${names.length} files of ${model.id} at ${commit}.`)
    const files: RemoteFile[] = []
    for (const name of chosen) files.push(await client.head(model, commit, name))
    refuseLarge(files)
    const lock = await locked(cache, progress)
    try {
      await fetchFiles({ client, model, commit, cache }, files, options)
    } finally {
      await lock.release()
    }
    return { folder: cache.snapshot(commit), commit }
  } finally {
    await client.close()
  }
}

async function fromCache({ id, revision }: HubModel, cache: ModelCache): Promise<FetchedModel> {
  const folder = await cache.known()
  if (folder === null)
    throw new HubError(
      `${cache.folder} has nothing of ${id} at ${revision}, and HF_HUB_OFFLINE forbids to fetch it.`,
    )
  return { folder, commit: folder.slice(-40) }
}

function refuseLarge(files: readonly RemoteFile[]): void {
  const large = files.find(({ bytes }) => bytes >= MAX_FILE_BYTES)
  if (large !== undefined)
    throw new HubError(
      `${large.name} has ${(large.bytes / 2 ** 30).toFixed(1)} GiB; a graph with its weights may have less than 2 GiB. Take a smaller variant, such as --variant int8.`,
    )
}

async function fetchFiles(
  source: Parameters<typeof download>[0],
  files: readonly RemoteFile[],
  { progress = () => undefined, freeBytes = freeOn, pauseMs = 1000 }: FetchOptions,
): Promise<void> {
  const { cache, commit } = source
  const report = progressLines(files, progress)
  try {
    await cache.prepare()
    await requireSpace(cache, files, freeBytes)
    for (const file of files) {
      await download(source, file, { onBytes: report, progress, pauseMs })
      await cache.link(commit, file.name, file.etag)
    }
    await cache.remember(commit)
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    if (FULL.has(code))
      throw new HubError(
        `The disk that holds ${cache.folder} became full. What has arrived is kept: the same command continues it.`,
      )
    throw error
  }
}

async function requireSpace(
  cache: ModelCache,
  files: readonly RemoteFile[],
  freeBytes: (folder: string) => Promise<number>,
): Promise<void> {
  const present = await Promise.all(files.map((file) => bytesPresent(cache, file)))
  const needed = files.reduce((sum, { bytes }, i) => sum + bytes - (present[i] ?? 0), 0)
  const free = await freeBytes(cache.folder)
  if (needed > 0 && needed + SPARE_BYTES > free)
    throw new HubError(
      `${mib(needed)} MiB are to be fetched into ${cache.folder}, whose disk has ${mib(free)} MiB free. Free some, or set HF_HUB_CACHE to another disk.`,
    )
}

async function freeOn(folder: string): Promise<number> {
  return (await diskSpace(folder)).free
}

/** Another `models add` of the same model finds its files when this one is done. */
async function locked(
  { locks }: ModelCache,
  progress: (sentence: string) => void,
): Promise<DataFolderLock> {
  for (let isTold = false; ; isTold = true) {
    try {
      return await lockDataFolder(locks, 'tandem models add')
    } catch (error) {
      if (!(error instanceof DataFolderLockedError)) throw error
      if (!isTold) progress('Waits for another process that fetches the same model.')
      await sleep(LOCK_PAUSE_MS)
    }
  }
}

/** A line every few seconds, and one at the end. */
function progressLines(
  files: readonly RemoteFile[],
  progress: (sentence: string) => void,
): (count: number) => void {
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0)
  const begun = performance.now()
  let [done, printed] = [0, begun]
  return (count) => {
    done += count
    const now = performance.now()
    if (done < total && now - printed < LINE_INTERVAL_MS) return
    printed = now
    const rate = done / Math.max((now - begun) / 1000, 1e-3)
    const left = done < total ? `, about ${Math.ceil((total - done) / rate)} s left` : ''
    const percent = total === 0 ? 100 : Math.floor((100 * done) / total)
    progress(`${percent} % of ${mib(total)} MiB, ${mib(rate)} MiB/s${left}.`)
  }
}

function mib(bytes: number): string {
  return (bytes / MIB).toFixed(1)
}
