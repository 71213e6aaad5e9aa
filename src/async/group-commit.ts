import { TandemError } from '../errors.js'

/** A write; one without an id, such as a restore of many items, is committed alone. */
export interface GroupedWrite {
  kind: string
  id: string | null
}

interface Waiting<Write, Outcome> {
  write: Write
  done: (outcome: Outcome) => void
  failed: (error: unknown) => void
}

/** Beyond this, writes are refused. Permits of HTTP requests keep the queue far shorter. */
const MAX_WAITING = 2048

/**
 * Group commit: commits together all writes that arrived while the previous group was committed, so
 * that many small writes share one flush or call. Writes are committed in the order of arrival. All
 * writes of a group are of one kind, and no id occurs twice in it.
 */
export class GroupCommit<Write extends GroupedWrite, Outcome> {
  readonly #options: {
    maxGroup: number
    target: string
    commit: (group: readonly Write[]) => Promise<readonly Outcome[]>
  }
  readonly #waiting: Waiting<Write, Outcome>[] = []
  #running: Promise<void> | undefined

  /**
   * @param options.maxGroup - writes in a group
   * @param options.target - what the writes wait for, named in the error when too many wait
   * @param options.commit - resolves to the outcome of each write, in their order
   */
  constructor(options: {
    maxGroup: number
    target: string
    commit: (group: readonly Write[]) => Promise<readonly Outcome[]>
  }) {
    this.#options = options
  }

  /** @throws what `commit` throws for the group; TandemError `overloaded` when too many wait */
  add(write: Write): Promise<Outcome> {
    return new Promise((done, failed) => {
      if (this.#waiting.length >= MAX_WAITING) {
        const sentence = `${MAX_WAITING} writes wait for ${this.#options.target}, which is the limit; try again in a moment.`
        const options = { retryAfterS: 1, reason: 'write_queue' } as const
        return failed(new TandemError('overloaded', sentence, options))
      }
      this.#waiting.push({ write, done, failed })
      this.#running ??= this.#run()
    })
  }

  /** Resolves when no write waits; that may never happen while writes keep arriving. */
  async settled(): Promise<void> {
    await this.#running
  }

  async #run(): Promise<void> {
    // Writes of the same turn of the event loop belong to one group.
    await Promise.resolve()
    while (this.#waiting.length > 0) {
      const group = this.#takeGroup()
      try {
        const outcomes = await this.#options.commit(group.map(({ write }) => write))
        group.forEach(({ done }, at) => done(outcomes[at] as Outcome))
      } catch (error) {
        for (const { failed } of group) failed(error)
      }
    }
    // Set in the same turn as the check above: a later write starts the next run.
    this.#running = undefined
  }

  #takeGroup(): Waiting<Write, Outcome>[] {
    const ids = new Set<string | null>()
    const first = this.#waiting[0]?.write
    if (first?.id === null) return this.#waiting.splice(0, 1)
    const end = this.#waiting.findIndex(({ write }, at) => {
      if (write.kind !== first?.kind || ids.has(write.id) || at === this.#options.maxGroup)
        return true
      ids.add(write.id)
      return false
    })
    return this.#waiting.splice(0, end === -1 ? this.#waiting.length : end)
  }
}
