/**
 * Backups in a folder of the disk:
 *
 *   NAME/manifest.json         see manifest.ts
 *   NAME/items/                the copy of the item store, a store of its own
 *   .unfinished-OWNER-NAME/    a backup in progress; with a random name, a removal in progress
 */
import { randomUUID } from 'node:crypto'
import { lstat, mkdir, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { TandemError } from '../errors.js'
import { diskSpace } from '../files/disk-space.js'
import { flush } from '../files/flush.js'
import { sha256OfFile } from '../files/sha256.js'
import { storageFailure } from '../files/storage-failure.js'
import type { Backup, Backups, CopyStore } from './backups.js'
import { filesOf, readManifest, writeManifest } from './manifest.js'

const ITEMS = 'items'

/**
 * @param folder - created with the first backup
 * @param owner - identity of the item store; only its unfinished backups are removed
 */
export function openBackups(folder: string, owner: string): Backups {
  return new BackupFolder(folder, owner)
}

class BackupFolder implements Backups {
  readonly #folder: string
  readonly #unfinished: string
  #leftovers: Promise<void> | undefined

  constructor(folder: string, owner: string) {
    this.#folder = folder
    this.#unfinished = `.unfinished-${owner}-`
  }

  async check(name: string, bytes: number): Promise<void> {
    try {
      await mkdir(this.#folder, { recursive: true })
      if ((await readdir(this.#folder)).includes(name)) {
        throw new TandemError('backup_exists', { name })
      }
      await this.#removeLeftovers()
      const { free } = await diskSpace(this.#folder)
      if (free > bytes) return
      // A full disk, if the items are on it too, would refuse writes.
      const sentence = `The backup may take ${bytes} bytes, and the disk of the backups has ${free} left.`
      throw new TandemError('storage_full', sentence)
    } catch (error) {
      throw await storageFailure(error, this.#folder, 'the backups')
    }
  }

  async make(name: string, copy: CopyStore, bytes: number): Promise<Backup> {
    await this.check(name, bytes)
    const [folder, aside] = [join(this.#folder, name), join(this.#folder, this.#unfinished + name)]
    const createdAt = new Date().toISOString()
    try {
      // Remains of a crash, under any name.
      await this.#removeUnfinished()
      await mkdir(aside)
      const { fingerprint, items, position } = await copy(join(aside, ITEMS))
      const files = await filesOf(join(aside, ITEMS))
      const manifest = await writeManifest(aside, {
        createdAt,
        fingerprint,
        items,
        position,
        files,
      })
      await flush(aside)
      await rename(aside, folder)
      await flush(this.#folder)
      return { name, ...manifest }
    } catch (error) {
      await this.#removeUnfinished().catch(() => undefined)
      throw await storageFailure(error, this.#folder, 'the backups')
    }
  }

  async list(): Promise<Backup[]> {
    const names = await readdir(this.#folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return []
      throw error
    })
    // Skips damaged backups; `find` says what is wrong with one.
    const backups = await Promise.all(
      names
        .filter((name) => !name.startsWith('.'))
        .map((name) => this.find(name).catch(() => undefined)),
    )
    return backups
      .filter((backup) => backup !== undefined)
      .sort((a, b) => (a.createdAt < b.createdAt ? 1 : -1))
  }

  async find(name: string): Promise<Backup> {
    try {
      return { name, ...(await readManifest(join(this.#folder, name))) }
    } catch (error) {
      if (isMissing(error)) throw notFound(name)
      throw unusable(name, (error as Error).message, error)
    }
  }

  async verified(name: string, signal: AbortSignal): Promise<string> {
    const { files } = await this.find(name)
    const folder = join(this.#folder, name, ITEMS)
    for (const { path, bytes, sha256 } of files) {
      const isFile = (await lstat(join(folder, path)).catch(() => null))?.isFile() === true
      // A link leads elsewhere, and a pipe would be read for ever.
      if (!isFile) throw unusable(name, `${path} cannot be read: it is missing, or not a file`)
      const file = await sha256OfFile(join(folder, path), signal).catch((error: unknown) => {
        signal.throwIfAborted()
        throw unusable(name, `${path} cannot be read`, error)
      })
      if (file.bytes !== bytes || file.sha256 !== sha256) throw unusable(name, `${path} is damaged`)
    }
    return folder
  }

  async remove(name: string): Promise<void> {
    await this.find(name).catch((error: unknown) => {
      // A damaged backup can be removed too.
      if (!(error instanceof TandemError) || error.code !== 'backup_unusable') throw error
    })
    // Renamed first, so that an interrupted removal leaves no damaged backup. The name is unique,
    // because two clients may remove at once.
    const aside = join(this.#folder, `${this.#unfinished}${randomUUID()}`)
    try {
      await rename(join(this.#folder, name), aside)
      await rm(aside, { recursive: true, force: true })
    } catch (error) {
      if (isMissing(error)) throw notFound(name)
      throw await storageFailure(error, this.#folder, 'the backups')
    }
  }

  /** Once: a later check may overlap with a backup in progress. */
  #removeLeftovers(): Promise<void> {
    this.#leftovers ??= this.#removeUnfinished().catch((error: unknown) => {
      this.#leftovers = undefined
      throw error
    })
    return this.#leftovers
  }

  async #removeUnfinished(): Promise<void> {
    const left = (await readdir(this.#folder)).filter((name) => name.startsWith(this.#unfinished))
    for (const name of left) await rm(join(this.#folder, name), { recursive: true, force: true })
  }
}

function isMissing(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')
}

function notFound(name: string): TandemError {
  return new TandemError('backup_not_found', { name })
}

function unusable(name: string, why: string, cause?: unknown): TandemError {
  return new TandemError('backup_unusable', `The backup "${name}" cannot be used: ${why}.`, {
    cause,
  })
}
