/** How many turns the event loop gives to others while something works. */
export async function turnsDuring<Result>(
  work: () => Promise<Result>,
): Promise<{ result: Result; turns: number }> {
  let turns = 0
  let running = true
  const count = (): void => {
    turns += 1
    if (running) setImmediate(count)
  }
  setImmediate(count)
  try {
    const result = await work()
    return { result, turns }
  } finally {
    running = false
  }
}

/**
 * Counts calls of something in each turn of the event loop, also where work waits for threads
 * meanwhile, so that the number of turns says nothing.
 */
export class CallsByTurn {
  all = 0
  most = 0
  #inTurn = 0

  count(): void {
    this.all += 1
    if (this.#inTurn === 0) setImmediate(() => (this.#inTurn = 0))
    this.#inTurn += 1
    this.most = Math.max(this.most, this.#inTurn)
  }
}
