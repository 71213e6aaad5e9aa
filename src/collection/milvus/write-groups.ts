/**
 * Writes of one service, a group at a time: all that arrived while the group before was being
 * written. So what one service does to an item happens in the order in which it was asked for, and
 * many small writes share a call.
 */
import { TandemError } from '../../errors.js'

interface Waiting<Work> {
  id: string
  work: Work
  done: (outcome: boolean) => void
  failed: (error: unknown) => void
}

const MOST_WAITING = 2048

export class Groups<Work extends { kind: string }> {
  readonly #write: (group: readonly { id: string; work: Work }[]) => Promise<boolean[]>
  readonly #largest: number
  readonly #waiting: Waiting<Work>[] = []
  #running: Promise<void> | undefined

  /**
   * @param largest - writes in a group; no id comes twice in one, and they are all of one kind
   * @param write - gives the outcome of each, in their order
   */
  constructor(
    largest: number,
    write: (group: readonly { id: string; work: Work }[]) => Promise<boolean[]>,
  ) {
    this.#largest = largest
    this.#write = write
  }

  /** @throws what `write` throws for the group; TandemError overloaded where too many wait */
  add(id: string, work: Work): Promise<boolean> {
    return new Promise((done, failed) => {
      if (this.#waiting.length >= MOST_WAITING) {
        const sentence = `${MOST_WAITING} writes wait for the vector database, the most that may; try again in a moment.`
        return failed(new TandemError('overloaded', sentence, { retryAfterS: 1 }))
      }
      this.#waiting.push({ id, work, done, failed })
      this.#running ??= this.#run()
    })
  }

  /** Resolves when nothing waits any more. */
  async settled(): Promise<void> {
    await this.#running
  }

  async #run(): Promise<void> {
    // Writes of the same turn of the event loop belong to one group.
    await Promise.resolve()
    while (this.#waiting.length > 0) {
      const group = this.#take()
      try {
        const outcomes = await this.#write(group)
        group.forEach(({ done }, at) => done(outcomes[at] === true))
      } catch (error) {
        for (const { failed } of group) failed(error)
      }
    }
    this.#running = undefined
  }

  #take(): Waiting<Work>[] {
    const ids = new Set<string>()
    const kind = this.#waiting[0]?.work.kind
    const end = this.#waiting.findIndex(({ id, work }, at) => {
      if (work.kind !== kind || ids.has(id) || at === this.#largest) return true
      ids.add(id)
      return false
    })
    return this.#waiting.splice(0, end === -1 ? this.#waiting.length : end)
  }
}
