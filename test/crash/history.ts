/**
 * What the clients have seen of the store, and so what a restart may find.
 *
 * Each id is a register of its own. A change can be the last one of its id unless another change,
 * which was acknowledged, began after it had ended. A change without acknowledgement may have
 * happened or not, and may be the last at any time.
 */
export interface Change {
  id: string
  /** Null for a removal. */
  version: number | null
  /** On the clients' common clock, which counts what they send and receive. */
  began: number
  /** When the acknowledgement came; infinity until then. */
  ended: number
}

export class History {
  /** Id → version, as the last restart found it. */
  #found: ReadonlyMap<string, number>
  #changes = new Map<string, Change[]>()
  #clock = 0

  /** @param found - what is there before anything is sent */
  constructor(found: ReadonlyMap<string, number> = new Map()) {
    this.#found = found
  }

  /** A client is about to send a change. */
  begin(id: string, version: number | null): Change {
    const change = { id, version, began: (this.#clock += 1), ended: Infinity }
    this.#changes.set(id, [...(this.#changes.get(id) ?? []), change])
    return change
  }

  /** The client has the acknowledgement. */
  end(change: Change): void {
    change.ended = this.#clock += 1
  }

  /** The change was refused: it has not happened. */
  withdraw(change: Change): void {
    this.#changes.set(
      change.id,
      (this.#changes.get(change.id) ?? []).filter((one) => one !== change),
    )
  }

  /**
   * Compares with what a restart found, one sentence for each contradiction; what was found is the
   * new beginning.
   */
  settle(found: ReadonlyMap<string, number>): string[] {
    const ids = new Set([...this.#found.keys(), ...this.#changes.keys(), ...found.keys()])
    const contradictions = [...ids].flatMap((id) => {
      const version = found.get(id) ?? null
      const possible = this.#possible(id)
      return possible.includes(version)
        ? []
        : [`${id} is ${said(version)}; it may be ${possible.map(said).join(' or ')}`]
    })
    this.#found = new Map(found)
    this.#changes = new Map()
    return contradictions
  }

  #possible(id: string): (number | null)[] {
    const changes = this.#changes.get(id) ?? []
    const acknowledged = changes.filter(({ ended }) => ended < Infinity)
    if (acknowledged.length === 0)
      return [this.#found.get(id) ?? null, ...changes.map(({ version }) => version)]
    const latest = Math.max(...acknowledged.map(({ began }) => began))
    return changes.filter(({ ended }) => ended > latest).map(({ version }) => version)
  }
}

function said(version: number | null): string {
  return version === null ? 'absent' : `version ${version}`
}
