/** Runs tasks one after the other, in the order of `run`; a failed task does not stop the next. */
export class SerialQueue {
  #last: Promise<unknown> = Promise.resolve()

  /** @throws what the task throws */
  run<Result>(task: () => Promise<Result>): Promise<Result> {
    const result = this.#last.then(task)
    this.#last = result.catch(() => undefined)
    return result
  }

  /** Resolves when all tasks so far have ended. */
  async idle(): Promise<void> {
    await this.#last
  }
}
