/** A search that a person waits for, or bulk work such as an upload or a re-embedding. */
export type Priority = 'interactive' | 'bulk'

/** While interactive work waits, every eighth task is bulk, so that bulk work does not starve. */
const BULK_EVERY = 8

/** Chooses the priority of the next task. */
export class PriorityScheduler {
  #sinceBulk = 0

  /**
   * @param waiting - priorities that have a task
   * @returns null when there is none
   */
  next(waiting: Readonly<Record<Priority, boolean>>): Priority | null {
    if (!waiting.interactive && !waiting.bulk) return null
    const isBulk = waiting.bulk && (!waiting.interactive || this.#sinceBulk >= BULK_EVERY - 1)
    // Interactive tasks count only while bulk waits.
    this.#sinceBulk = isBulk || !waiting.bulk ? 0 : this.#sinceBulk + 1
    return isBulk ? 'bulk' : 'interactive'
  }
}
