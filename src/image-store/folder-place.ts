/** Images as files of a folder, which may be shared over a network file system. */
import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { TandemError } from '../errors.js'
import { flush, writeFlushed } from '../files/flush.js'
import { storageFailure } from '../files/storage-failure.js'
import { isKey, unfinished } from './key.js'
import type { Place, StoredImage } from './image-store.js'

export class FolderPlace implements Place {
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
  }

  async put(key: string, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    const path = join(this.#folder, key)
    const aside = join(this.#folder, unfinished(key))
    try {
      const firstCreated = await mkdir(dirname(path), { recursive: true })
      try {
        await writeFlushed(aside, bytes, { flags: 'wx', signal })
        await rename(aside, path)
      } catch (error) {
        await rm(aside, { force: true }).catch(() => undefined)
        throw error
      }
      await this.#flushNames(dirname(path), firstCreated)
    } catch (error) {
      signal.throwIfAborted()
      throw await this.#asFailure(error)
    }
  }

  async get(key: string, signal: AbortSignal): Promise<Uint8Array | undefined> {
    try {
      return await readFile(join(this.#folder, key), { signal })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw await this.#asFailure(error)
    }
  }

  async remove(key: string): Promise<void> {
    await rm(join(this.#folder, key), { force: true }).catch(async (error: unknown) => {
      throw await this.#asFailure(error)
    })
  }

  async *list(signal?: AbortSignal): AsyncIterable<StoredImage> {
    for (const first of await this.#namesIn('')) {
      for (const second of await this.#namesIn(first)) {
        const names = await this.#namesIn(join(first, second))
        for (const key of names.map((name) => `${first}/${second}/${name}`).filter(isKey)) {
          signal?.throwIfAborted()
          const file = await stat(join(this.#folder, key)).catch(() => undefined)
          // Undefined: removed since.
          if (file !== undefined) yield { key, storedAt: file.mtime }
        }
      }
    }
  }

  close(): void {
    // Each call opens and closes its files.
  }

  async #namesIn(folder: string): Promise<string[]> {
    return readdir(join(this.#folder, folder)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return []
      throw failed(error)
    })
  }

  /** A file is durable when the names of the file and of all created folders are. */
  async #flushNames(folder: string, firstCreated: string | undefined): Promise<void> {
    await flush(folder)
    if (firstCreated === undefined) return
    const last = dirname(firstCreated)
    for (let above = folder; above !== last;) {
      above = dirname(above)
      await flush(above)
    }
  }

  async #asFailure(error: unknown): Promise<unknown> {
    if (error instanceof Error && error.name === 'AbortError') return error
    const known = await storageFailure(error, this.#folder, 'the images').catch(() => error)
    return known instanceof TandemError ? known : failed(known)
  }
}

function failed(error: unknown): TandemError {
  const { code = 'no code' } = error as { code?: string }
  const sentence = `The folder of the images cannot be used (${code}).`
  return new TandemError('image_store_failed', sentence, { cause: error })
}
