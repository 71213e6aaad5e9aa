/** Backups and restores of a running service: one at a time, in the background. */
import type { BaseLogger } from 'pino'
import type { Restored, Maintenance } from '../collection/collection.js'
import { TandemError, type ErrorCode } from '../errors.js'
import { DamagedStoreError } from '../item-store/lmdb-pages.js'
import { StoreMismatchError } from '../item-store/stamp.js'
import type { Backup, Backups } from './backups.js'

export interface Job {
  action: 'backup' | 'restore'
  /** Name of the backup. */
  name: string
  /** ISO 8601, UTC. */
  startedAt: string
  /** Restored items and all items of the backup; null while unknown. */
  progress: { items: number; of: number } | null
}

export interface FinishedJob extends Job {
  endedAt: string
  /** Null when it succeeded. */
  failure: { code: ErrorCode; detail: string } | null
  /** Result of a successful restore. */
  restored: Restored | null
}

export class BackupJobs {
  readonly #backups: Backups
  readonly #maintenance: Maintenance
  readonly #log: Pick<BaseLogger, 'info' | 'error'>
  readonly #stop = new AbortController()
  #running: Promise<void> | undefined
  #job: Job | null = null
  #last: FinishedJob | null = null

  constructor(backups: Backups, maintenance: Maintenance, log: Pick<BaseLogger, 'info' | 'error'>) {
    this.#backups = backups
    this.#maintenance = maintenance
    this.#log = log
  }

  /** The running job, and the last one that ended since the start of the service. */
  get state(): { running: Job | null; last: FinishedJob | null } {
    return { running: this.#job, last: this.#last }
  }

  list(): Promise<Backup[]> {
    return this.#backups.list()
  }

  /**
   * Starts a backup. Its name is the present time by default.
   *
   * @param onEnd - called once with the result
   * @throws TandemError backup_busy, backup_exists, storage_full, storage_read_only
   */
  async backup(
    requestedName: string | undefined,
    onEnd: (ended: FinishedJob) => void,
  ): Promise<Job> {
    const { storage } = this.#maintenance
    const name = requestedName ?? nameOf(new Date())
    this.#checkFree()
    await this.#backups.check(name, storage.bytes)
    return this.#begin('backup', name, onEnd, async (job) => {
      const copy = async (folder: string) => {
        const { size, position, fingerprint } = await this.#maintenance.copyTo(folder)
        return { items: size, position, fingerprint }
      }
      const { items } = await this.#backups.make(job.name, copy, storage.bytes)
      job.progress = { items, of: items }
      return null
    })
  }

  /**
   * Starts to restore a backup.
   *
   * @throws TandemError backup_busy, backup_not_found, backup_unusable
   */
  async restore(name: string, onEnd: (ended: FinishedJob) => void): Promise<Job> {
    this.#checkFree()
    const { items: of } = await this.#backups.find(name)
    const { signal } = this.#stop
    return this.#begin('restore', name, onEnd, (job) => {
      const folder = this.#backups.verified(name, signal).then((verified) => {
        job.progress = { items: 0, of }
        return verified
      })
      const onProgress = (items: number): void => void (job.progress = { items, of })
      return this.#maintenance.restoreFrom(folder, { signal, onProgress })
    })
  }

  /**
   * @throws TandemError backup_not_found, storage_read_only, backup_busy while it is being restored
   */
  async remove(name: string): Promise<void> {
    if (this.#job?.name === name) this.#checkFree()
    await this.#backups.remove(name)
  }

  /** Cancels a restore after its current group of items; waits for the end of a backup. */
  async close(): Promise<void> {
    this.#stop.abort(new TandemError('not_ready', 'The service was stopped before the end.'))
    await this.#running
  }

  #begin(
    action: Job['action'],
    name: string,
    onEnd: (ended: FinishedJob) => void,
    run: (job: Job) => Promise<Restored | null>,
  ): Job {
    this.#checkFree()
    const job: Job = { action, name, startedAt: new Date().toISOString(), progress: null }
    this.#job = job
    const end = (restored: Restored | null, failure: FinishedJob['failure']): void => {
      this.#job = null
      this.#last = { ...job, endedAt: new Date().toISOString(), failure, restored }
      this.#log[failure === null ? 'info' : 'error'](
        this.#last,
        `${action} of "${name}": ${failure?.detail ?? 'done'}`,
      )
      onEnd(this.#last)
    }
    this.#running = run(job).then(
      (restored) => end(restored, null),
      (error: unknown) => end(null, this.#failureOf(error)),
    )
    return job
  }

  #failureOf(error: unknown): { code: ErrorCode; detail: string } {
    if (error instanceof TandemError) return { code: error.code, detail: error.message }
    if (error instanceof StoreMismatchError || error instanceof DamagedStoreError)
      return { code: 'backup_unusable', detail: error.message }
    this.#log.error({ err: error }, 'backup or restore failed')
    return {
      code: 'internal_error',
      detail: 'Something went wrong in the service; its log has the details.',
    }
  }

  #checkFree(): void {
    if (this.#job === null) return
    const { action, name } = this.#job
    throw new TandemError(
      'backup_busy',
      `The ${action} of "${name}" is in progress; one at a time.`,
    )
  }
}

/** Such as 20260131T120000Z: sorts by time and is a valid name on every system. */
function nameOf(time: Date): string {
  return time.toISOString().replace(/[-:]|\.\d+/g, '')
}
