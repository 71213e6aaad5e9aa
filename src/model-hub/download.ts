/** Fetches one file into the cache: continued after interruptions, verified when complete. */
import { createHash, type Hash } from 'node:crypto'
import { open, rename, rm, stat, type FileHandle } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { Backoff } from '../async/backoff.js'
import type { ModelCache } from './cache.js'
import { TransientError, type HubClient, type RemoteFile } from './client.js'
import { HubError, type HubModel } from './hub.js'

export interface Source {
  client: HubClient
  model: HubModel
  commit: string
  cache: ModelCache
}

export interface DownloadOptions {
  /** Bytes that are new in the cache or were found there. */
  onBytes: (count: number) => void
  /** Gets a sentence when a connection broke off. */
  progress: (sentence: string) => void
  /** Before the first repetition; doubles. */
  pauseMs: number
}

const PIECE_BYTES = 1024 * 1024
/** Attempts in a row that bring no byte. */
const ATTEMPTS = 5
const MAX_PAUSE_MS = 30_000

/**
 * Makes the blob of a file. One that is there is verified as if it had been fetched.
 * @throws HubError when the bytes do not have the hash that the hub names
 */
export async function download(
  source: Source,
  file: RemoteFile,
  options: DownloadOptions,
): Promise<void> {
  const { cache } = source
  if (await isWhole(cache.blob(file.etag), file)) return options.onBytes(file.bytes)
  const path = cache.incomplete(file.etag)
  const handle = await open(path, 'a+').then(async (made) => {
    await made.close()
    return open(path, 'r+')
  })
  try {
    await complete(source, file, handle, options)
    await handle.sync()
  } catch (error) {
    if (error instanceof WrongHashError) await rm(path, { force: true })
    throw error
  } finally {
    await handle.close()
  }
  await rename(path, cache.blob(file.etag))
}

/** Bytes of a file that are in the cache. */
export async function bytesPresent(
  cache: ModelCache,
  { etag, bytes }: RemoteFile,
): Promise<number> {
  const [blob, part] = await Promise.all(
    [cache.blob(etag), cache.incomplete(etag)].map(async (path) => {
      return (await stat(path).catch(() => null))?.size ?? 0
    }),
  )
  return blob === bytes ? bytes : Math.min(part ?? 0, bytes)
}

class WrongHashError extends HubError {}

async function complete(
  source: Source,
  file: RemoteFile,
  handle: FileHandle,
  options: DownloadOptions,
): Promise<void> {
  const growth = await Growth.of(handle, file)
  options.onBytes(growth.bytes)
  const resumed = growth.bytes > 0
  const backoff = new Backoff(options.pauseMs, MAX_PAUSE_MS)
  for (let fruitless = 0; growth.bytes < file.bytes;) {
    const before = growth.bytes
    try {
      await receive(source, file, growth, options)
    } catch (error) {
      if (!(error instanceof TransientError)) throw error
      fruitless = growth.bytes > before ? 1 : fruitless + 1
      if (fruitless >= ATTEMPTS) throw error
      if (growth.bytes > before) backoff.reset()
      options.progress(`${error.message} Tries again.`)
      await sleep(Math.max(backoff.jitteredMs, error.retryAfter * 1000))
      backoff.double()
    }
  }
  const found = growth.digest()
  if (found === file.etag) return
  if (resumed) {
    // The bytes of the former attempt may be to blame.
    options.onBytes(-growth.bytes)
    await handle.truncate(0)
    return complete(source, file, handle, options)
  }
  throw new WrongHashError(
    `${file.name} arrived with the hash ${found}; the hub names ${file.etag}. Nothing of it was kept.`,
  )
}

async function receive(
  { client, model, commit }: Source,
  file: RemoteFile,
  growth: Growth,
  { onBytes }: DownloadOptions,
): Promise<void> {
  const { start, body } = await client.open(model, commit, file.name, growth.bytes)
  if (start !== growth.bytes) {
    onBytes(-growth.bytes)
    await growth.restart()
  }
  const pieces = body[Symbol.asyncIterator]()
  for (;;) {
    const next = await pieces.next().catch((error: NodeJS.ErrnoException) => {
      throw new TransientError(
        `The connection broke off within ${file.name} (${error.code ?? error.message}).`,
      )
    })
    if (next.done === true) break
    if (growth.bytes + next.value.length > file.bytes) {
      await pieces.return?.()
      throw new WrongHashError(
        `${file.name} has more than the ${file.bytes} bytes that the hub names. Nothing of it was kept.`,
      )
    }
    await growth.append(next.value)
    onBytes(next.value.length)
  }
  if (growth.bytes < file.bytes)
    throw new TransientError(`${file.name} ended after ${growth.bytes} of ${file.bytes} bytes.`)
}

/** A file that grows, and the hash of its bytes. */
class Growth {
  bytes = 0
  readonly #handle: FileHandle
  readonly #file: RemoteFile
  #hash: Hash

  private constructor(handle: FileHandle, file: RemoteFile) {
    this.#handle = handle
    this.#file = file
    this.#hash = hashOf(file)
  }

  /** Continues with the bytes that the file has. */
  static async of(handle: FileHandle, file: RemoteFile): Promise<Growth> {
    const growth = new Growth(handle, file)
    if ((await handle.stat()).size > file.bytes) await handle.truncate(0)
    growth.bytes = await hashInto(growth.#hash, handle)
    return growth
  }

  async restart(): Promise<void> {
    await this.#handle.truncate(0)
    this.bytes = 0
    this.#hash = hashOf(this.#file)
  }

  async append(piece: Buffer): Promise<void> {
    await this.#handle.write(piece, 0, piece.length, this.bytes)
    this.#hash.update(piece)
    this.bytes += piece.length
  }

  digest(): string {
    return this.#hash.digest('hex')
  }
}

/** SHA-256 of large files; for others that of git, which hashes a header first. */
function hashOf({ etag, bytes }: RemoteFile): Hash {
  if (etag.length === 64) return createHash('sha256')
  return createHash('sha1').update(`blob ${bytes}\0`)
}

async function hashInto(hash: Hash, handle: FileHandle): Promise<number> {
  const piece = Buffer.allocUnsafeSlow(PIECE_BYTES)
  for (let at = 0; ;) {
    const { bytesRead } = await handle.read(piece, 0, PIECE_BYTES, at)
    if (bytesRead === 0) return at
    hash.update(piece.subarray(0, bytesRead))
    at += bytesRead
  }
}

async function isWhole(path: string, file: RemoteFile): Promise<boolean> {
  const handle = await open(path, 'r').catch(() => null)
  if (handle === null) return false
  try {
    if ((await handle.stat()).size !== file.bytes) return false
    const hash = hashOf(file)
    await hashInto(hash, handle)
    return hash.digest('hex') === file.etag
  } finally {
    await handle.close()
  }
}
