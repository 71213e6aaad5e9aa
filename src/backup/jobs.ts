/**
 * Backup and restore of a service that serves: one at a time, in the background, and what came of
 * the last.
 */
import type { BaseLogger } from 'pino'
import type { Backup, Backups } from './backups.js'
import type { Restored, Maintenance } from '../collection/collection.js'
import { TandemError, type ErrorCode } from '../errors.js'
import { StoreMismatchError } from '../item-store/stamp.js'

export interface Work {
  action: 'backup' | 'restore'
  /** Of the backup. */
  name: string
  /** ISO 8601, UTC. */
  startedAt: string
  /**
   * Of a restore: the items of the backup that have been dealt with, and all. Null where that is
   * not known.
   */
  progress: { items: number; of: number } | null
}

export interface Ended extends Work {
  endedAt: string
  /** Null when it succeeded. */
  failure: { code: ErrorCode; detail: string } | null
  /** Of a restore that succeeded. */
  restored: Restored | null
}

export class Safekeeping {
  readonly #backups: Backups
  readonly #maintenance: Maintenance
  readonly #log: Pick<BaseLogger, 'info' | 'error'>
  readonly #stop = new AbortController()
  #working: Promise<void> | undefined
  #work: Work | null = null
  #last: Ended | null = null

  constructor(backups: Backups, maintenance: Maintenance, log: Pick<BaseLogger, 'info' | 'error'>) {
    this.#backups = backups
    this.#maintenance = maintenance
    this.#log = log
  }

  /** What is under way, and what came of the last that ended since the service was started. */
  get state(): { running: Work | null; last: Ended | null } {
    return { running: this.#work, last: this.#last }
  }

  list(): Promise<Backup[]> {
    return this.#backups.list()
  }

  /**
   * Begins a backup, under the present time where no name is given.
   *
   * @param onEnd - called once with what came of it
   * @throws TandemError backup_busy, backup_exists, storage_full, storage_read_only
   */
  async backup(given: string | undefined, onEnd: (ended: Ended) => void): Promise<Work> {
    const { storage } = this.#maintenance
    const name = given ?? nameOf(new Date())
    this.#checkFree()
    await this.#backups.check(name, storage.bytes)
    return this.#begin('backup', name, onEnd, async (work) => {
      const copy = async (folder: string) => {
        const { size, position, fingerprint } = await this.#maintenance.copyTo(folder)
        return { items: size, position, fingerprint }
      }
      const { items } = await this.#backups.make(work.name, copy, storage.bytes)
      work.progress = { items, of: items }
      return null
    })
  }

  /**
   * Begins to restore a backup.
   *
   * @throws TandemError backup_busy, backup_not_found, backup_unusable
   */
  async restore(name: string, onEnd: (ended: Ended) => void): Promise<Work> {
    this.#checkFree()
    const { items: of } = await this.#backups.find(name)
    const { signal } = this.#stop
    return this.#begin('restore', name, onEnd, async (work) => {
      const folder = await this.#backups.verified(name, signal)
      work.progress = { items: 0, of }
      const onProgress = (items: number): void => void (work.progress = { items, of })
      return this.#maintenance.restoreFrom(folder, { signal, onProgress })
    })
  }

  /**
   * @throws TandemError backup_not_found, storage_read_only, backup_busy while it is being restored
   */
  async remove(name: string): Promise<void> {
    if (this.#work?.name === name) this.#checkFree()
    await this.#backups.remove(name)
  }

  /** Ends a restore between two groups of items, waits for a backup, which cannot be called off. */
  async close(): Promise<void> {
    this.#stop.abort(new TandemError('not_ready', 'The service was stopped before the end.'))
    await this.#working
  }

  #begin(
    action: Work['action'],
    name: string,
    onEnd: (ended: Ended) => void,
    run: (work: Work) => Promise<Restored | null>,
  ): Work {
    this.#checkFree()
    const work: Work = { action, name, startedAt: new Date().toISOString(), progress: null }
    this.#work = work
    const end = (restored: Restored | null, failure: Ended['failure']): void => {
      this.#work = null
      this.#last = { ...work, endedAt: new Date().toISOString(), failure, restored }
      this.#log[failure === null ? 'info' : 'error'](
        this.#last,
        `${action} of "${name}": ${failure?.detail ?? 'done'}`,
      )
      onEnd(this.#last)
    }
    this.#working = run(work).then(
      (restored) => end(restored, null),
      (error: unknown) => end(null, this.#failureOf(error)),
    )
    return work
  }

  #failureOf(error: unknown): { code: ErrorCode; detail: string } {
    if (error instanceof TandemError) return { code: error.code, detail: error.message }
    if (error instanceof StoreMismatchError)
      return { code: 'backup_unusable', detail: error.message }
    this.#log.error({ err: error }, 'backup or restore failed')
    return {
      code: 'internal_error',
      detail: 'Something went wrong in the service; its log has the details.',
    }
  }

  #checkFree(): void {
    if (this.#work === null) return
    const { action, name } = this.#work
    throw new TandemError('backup_busy', `The ${action} of "${name}" is under way; one at a time.`)
  }
}

/** As in 20260131T120000Z: it sorts by time and is a name on every system. */
function nameOf(time: Date): string {
  return time.toISOString().replace(/[-:]|\.\d+/g, '')
}
