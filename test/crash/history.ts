/**
 * History of the clients' changes, from which follow the states that a restart may show.
 *
 * Each id is a register. A change can be the last one of its id unless another, acknowledged change
 * began after it had ended. A change without acknowledgement may have happened or not, and may
 * always be the last one.
 */
export interface Change {
  id: string
  /** Null for a removal. */
  version: number | null
  /** On the common clock of the clients, which counts sent and received messages. */
  began: number
  /** Time of the acknowledgement; infinity before it. */
  ended: number
}

export class History {
  /** Id → version at the last check. */
  #initial: ReadonlyMap<string, number>
  #changes = new Map<string, Change[]>()
  #clock = 0

  /** @param initial - versions before the first change */
  constructor(initial: ReadonlyMap<string, number> = new Map()) {
    this.#initial = initial
  }

  /** Called before a client sends a change. */
  begin(id: string, version: number | null): Change {
    const change = { id, version, began: (this.#clock += 1), ended: Infinity }
    this.#changes.set(id, [...(this.#changes.get(id) ?? []), change])
    return change
  }

  /** Called when the client has the acknowledgement. */
  end(change: Change): void {
    change.ended = this.#clock += 1
  }

  /** Removes a change that was refused and has not happened. */
  withdraw(change: Change): void {
    this.#changes.set(
      change.id,
      (this.#changes.get(change.id) ?? []).filter((other) => other !== change),
    )
  }

  /**
   * Compares the versions after a restart with the history, and begins a new history from them.
   * @returns one sentence for each contradiction
   */
  settle(versions: ReadonlyMap<string, number>): string[] {
    const ids = new Set([...this.#initial.keys(), ...this.#changes.keys(), ...versions.keys()])
    const contradictions = [...ids].flatMap((id) => {
      const version = versions.get(id) ?? null
      const possible = this.#possible(id)
      return possible.includes(version)
        ? []
        : [
            `${id} is ${describeVersion(version)}; it may be ${possible.map(describeVersion).join(' or ')}`,
          ]
    })
    this.#initial = new Map(versions)
    this.#changes = new Map()
    return contradictions
  }

  #possible(id: string): (number | null)[] {
    const changes = this.#changes.get(id) ?? []
    const acknowledged = changes.filter(({ ended }) => ended < Infinity)
    if (acknowledged.length === 0)
      return [this.#initial.get(id) ?? null, ...changes.map(({ version }) => version)]
    const latest = Math.max(...acknowledged.map(({ began }) => began))
    return changes.filter(({ ended }) => ended > latest).map(({ version }) => version)
  }
}

function describeVersion(version: number | null): string {
  return version === null ? 'absent' : `version ${version}`
}
