/**
 * The cache of the hub: `blobs/` by hash, `snapshots/COMMIT/` with links to them, `refs/` with the
 * commit of a branch. Python's libraries read and write the same folders.
 */
import { copyFile, mkdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises'
import { randomBytes } from 'node:crypto'
import { dirname, join, relative } from 'node:path'
import { replaceFile } from '../files/flush.js'
import type { HubModel } from './hub.js'

/** File systems without links. */
const NO_LINKS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'])
const COMMIT = /^[0-9a-f]{40}$/

export class ModelCache {
  readonly folder: string
  /** Folder of the lock: Python's library has its lock files there, too. */
  readonly locks: string
  readonly #revision: string

  constructor(cache: string, { id, revision }: HubModel) {
    const name = `models--${id.replace('/', '--')}`
    this.folder = join(cache, name)
    this.locks = join(cache, '.locks', name)
    this.#revision = revision
  }

  blob(etag: string): string {
    return join(this.folder, 'blobs', etag)
  }

  /**
   * Where a blob grows. The name differs from that of Python's library, which appends to its own
   * and knows nothing of our lock.
   */
  incomplete(etag: string): string {
    return `${this.blob(etag)}.tandem.incomplete`
  }

  snapshot(commit: string): string {
    return join(this.folder, 'snapshots', commit)
  }

  /** The snapshot that the cache has of the revision; null without one. */
  async known(): Promise<string | null> {
    const commit = COMMIT.test(this.#revision)
      ? this.#revision
      : (await readFile(this.#ref(), 'utf8').catch(() => '')).trim()
    const folder = this.snapshot(commit)
    const isThere = COMMIT.test(commit) && (await isFolder(folder))
    return isThere ? folder : null
  }

  async prepare(): Promise<void> {
    await mkdir(join(this.folder, 'blobs'), { recursive: true })
  }

  async remember(commit: string): Promise<void> {
    if (commit === this.#revision) return
    await mkdir(dirname(this.#ref()), { recursive: true })
    await replaceFile(this.#ref(), commit)
  }

  /** Puts a blob into a snapshot; where there are no links, a copy of it. */
  async link(commit: string, name: string, etag: string): Promise<void> {
    const path = join(this.snapshot(commit), name)
    const aside = `${path}.${randomBytes(4).toString('hex')}.new`
    await mkdir(dirname(path), { recursive: true })
    try {
      await symlink(relative(dirname(path), this.blob(etag)), aside)
    } catch (error) {
      if (!NO_LINKS.has((error as NodeJS.ErrnoException).code ?? '')) throw error
      await copyFile(this.blob(etag), aside)
    }
    await rename(aside, path).catch(async (error: unknown) => {
      await rm(aside, { force: true })
      throw error
    })
  }

  #ref(): string {
    return join(this.folder, 'refs', this.#revision)
  }
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null))?.isDirectory() === true
}
