import type { Call } from '../models.js'

export type Priority = NonNullable<Call['priority']>

/**
 * While interactive work waits, one turn in so many is bulk's: it is slow then, but never stands
 * still.
 */
const BULK_EVERY = 8

/** Decides whose turn it is. */
export class Precedence {
  #sinceBulk = 0

  /** @returns null when nothing waits */
  next(waits: Readonly<Record<Priority, boolean>>): Priority | null {
    if (!waits.interactive && !waits.bulk) return null
    const bulk = waits.bulk && (!waits.interactive || this.#sinceBulk >= BULK_EVERY - 1)
    // What was taken while no bulk waited owes it nothing.
    this.#sinceBulk = bulk || !waits.bulk ? 0 : this.#sinceBulk + 1
    return bulk ? 'bulk' : 'interactive'
  }
}
