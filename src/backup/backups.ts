/**
 * DOOR of the backups: folders under one folder, each with a copy of the item store and a manifest.
 * A backup that is being made lies under a name that begins with a dot, and takes its own name when
 * it is whole and flushed to the disk.
 */
import { BackupFolder } from './backup-folder.js'
import type { Manifest } from './manifest.js'

export type { Manifest }

export interface Backup extends Manifest {
  name: string
}

/** Where the copy of the item store lies in the folder of a backup. */
export type CopyStore = (
  folder: string,
) => Promise<Pick<Manifest, 'fingerprint' | 'items' | 'position'>>

export interface Backups {
  /**
   * Whether a backup can be begun.
   *
   * @param bytes - that the copy of the item store takes at most
   * @throws TandemError backup_exists, storage_full, storage_read_only
   */
  check(name: string, bytes: number): Promise<void>
  /**
   * Makes a backup, after the same check. What a failure leaves behind is removed.
   *
   * @param copy - writes the copy of the item store into the folder that it is given
   * @throws TandemError backup_exists, storage_full, storage_read_only
   */
  make(name: string, copy: CopyStore, bytes: number): Promise<Backup>
  /** Those that are whole, the newest first. */
  list(): Promise<Backup[]>
  /** @throws TandemError backup_not_found, backup_unusable */
  find(name: string): Promise<Backup>
  /**
   * Reads every file of a backup and compares it with the manifest.
   *
   * @returns the folder with the copy of the item store
   * @throws TandemError backup_not_found, backup_unusable
   */
  verified(name: string, signal: AbortSignal): Promise<string>
  /** @throws TandemError backup_not_found, storage_read_only */
  remove(name: string): Promise<void>
}

/**
 * @param folder - may be missing until the first backup is made
 * @param owner - the identity of the item store: what it left unfinished is removed, what others
 *   left is not
 */
export function openBackups(folder: string, owner: string): Backups {
  return new BackupFolder(folder, owner)
}
