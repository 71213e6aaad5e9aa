/**
 * Joins the searches of one turn into groups that the process of the graph is asked together: a
 * batch of texts ends for all of them in the same turn, and a message costs both sides as much as a
 * good part of a search.
 */
export interface Searched {
  embedding: Float32Array
  candidates: number
}

interface Waiting<Answer> extends Searched {
  resolve: (answer: Answer) => void
  reject: (error: Error) => void
}

/**
 * A group is answered as a whole, and the first of it waits for the last: for a millisecond or so.
 */
const LARGEST_GROUP = 4

export class SearchGroups<Answer> {
  readonly #ask: (group: readonly Searched[]) => Promise<readonly Answer[]>
  #waiting: Waiting<Answer>[] = []

  /** @param ask - answers in the order of the group */
  constructor(ask: (group: readonly Searched[]) => Promise<readonly Answer[]>) {
    this.#ask = ask
  }

  /** @param embedding - not to be changed before the answer */
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
