/**
 * Contract of backups: each has a copy of the item store and a manifest. A backup in progress has a
 * name with a leading dot and gets its own name when it is complete and flushed to the disk.
 */
import type { Manifest } from './manifest.js'

export interface Backup extends Manifest {
  name: string
}

/** Writes a copy of the item store into `folder`. */
export type CopyStore = (
  folder: string,
) => Promise<Pick<Manifest, 'fingerprint' | 'items' | 'position'>>

export interface Backups {
  /**
   * Verifies that a backup can be made.
   *
   * @param bytes - upper bound for the copy of the item store
   * @throws TandemError backup_exists, storage_full, storage_read_only
   */
  check(name: string, bytes: number): Promise<void>
  /**
   * Makes a backup, after the same check. A failure leaves nothing behind.
   *
   * @throws TandemError backup_exists, storage_full, storage_read_only
   */
  make(name: string, copy: CopyStore, bytes: number): Promise<Backup>
  /** Complete backups, the newest first. */
  list(): Promise<Backup[]>
  /** @throws TandemError backup_not_found, backup_unusable */
  find(name: string): Promise<Backup>
  /**
   * Compares every file of a backup with its manifest.
   *
   * @returns the folder with the copy of the item store
   * @throws TandemError backup_not_found, backup_unusable
   */
  verified(name: string, signal: AbortSignal): Promise<string>
  /** @throws TandemError backup_not_found, storage_read_only */
  remove(name: string): Promise<void>
}
