/**
 * Sends the searches of one event loop turn to the graph's process in groups. A batch of texts ends
 * in one turn for all of them, and a message costs a good part of a search.
 */
export interface Search {
  embedding: Float32Array
  candidates: number
}

interface Waiting<Answer> extends Search {
  resolve: (answer: Answer) => void
  reject: (error: Error) => void
}

/** A group is answered as a whole: its first search waits about a millisecond for its last. */
const LARGEST_GROUP = 4

export class SearchGroups<Answer> {
  readonly #ask: (group: readonly Search[]) => Promise<readonly Answer[]>
  #waiting: Waiting<Answer>[] = []

  /** @param ask - returns the answers in the order of the group */
  constructor(ask: (group: readonly Search[]) => Promise<readonly Answer[]>) {
    this.#ask = ask
  }

  /** @param embedding - must not change before the answer */
  search(embedding: Float32Array, candidates: number): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const count = this.#waiting.push({ embedding, candidates, resolve, reject })
      if (count === 1) process.nextTick(() => this.#askAll())
    })
  }

  #askAll(): void {
    const all = this.#waiting
    this.#waiting = []
    for (let start = 0; start < all.length; start += LARGEST_GROUP)
      this.#askGroup(all.slice(start, start + LARGEST_GROUP))
  }

  #askGroup(group: readonly Waiting<Answer>[]): void {
    this.#ask(group.map(({ embedding, candidates }) => ({ embedding, candidates }))).then(
      (answers) => group.forEach(({ resolve }, at) => resolve(answers[at] as Answer)),
      (error: Error) => group.forEach(({ reject }) => reject(error)),
    )
  }
}
