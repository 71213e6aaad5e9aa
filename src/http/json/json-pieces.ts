/**
 * Hands a JSON value over in pieces. Building a value of 20 MB from a message takes the event loop
 * a tenth of a second, in one go; building a piece of it takes about a millisecond.
 */

/** Neighbours in one list or object. */
export interface Piece {
  /** The number of the list or object: 0 holds the value alone. */
  of: number
  /** Null in a list. */
  names: string[] | null
  values: unknown[]
  /**
   * Positions of lists and objects that are empty in `values`, because their content comes in
   * pieces of its own. In the order of the pieces they have the numbers 1, 2, 3…
   */
  open: number[]
}

/** About as many nanoseconds, if a character takes some and a value a hundred. */
const MAX_COST = 262_144
/** Beyond the characters of it. A name is looked up in a table of all names. */
const VALUE_COST = 24
const NAME_COST = 96
const CONTAINER_COST = 96
/** Less than a stand-in of a long string costs. */
const MIN_LARGE = 10_000

type Container = unknown[] | Record<string, unknown>

/** Levels of a value: the walk through it is recursive, as is the one of a message. */
export const MAX_DEPTH = 1000

/** The pieces of a value that is nested at most `MAX_DEPTH` levels deep. */
export class JsonPieces implements Iterable<Piece> {
  readonly #value: unknown
  readonly #costs = new Map<Container, number>()

  constructor(value: unknown) {
    this.#value = value
  }

  /** Fields of the value that cost much; none unless it is an object. */
  get largeFields(): [name: string, field: unknown][] {
    if (!isContainer(this.#value) || Array.isArray(this.#value)) return []
    return Object.entries(this.#value).filter(([, field]) => this.#costOf(field) > MIN_LARGE)
  }

  *[Symbol.iterator](): Generator<Piece> {
    const open: Container[] = [[this.#value]]
    // It grows meanwhile.
    for (const [of, container] of open.entries()) {
      const isList = Array.isArray(container)
      let piece = emptyPiece(of, isList)
      let cost = 0
      for (const name of isList ? container.keys() : Object.keys(container)) {
        const child = (container as Record<string | number, unknown>)[name]
        const isOpen = isContainer(child) && this.#costOf(child) > MAX_COST
        if (isOpen) {
          piece.open.push(piece.values.length)
          open.push(child)
        }
        piece.names?.push(String(name))
        piece.values.push(isOpen ? emptyOf(child) : child)
        cost += isOpen ? CONTAINER_COST : this.#costOf(child)
        if (!isList) cost += costOfName(String(name))
        if (cost <= MAX_COST) continue
        yield piece
        piece = emptyPiece(of, isList)
        cost = 0
      }
      if (piece.values.length > 0) yield piece
    }
  }

  #costOf(value: unknown): number {
    if (typeof value === 'string') return VALUE_COST + value.length
    if (!isContainer(value)) return VALUE_COST
    let cost = this.#costs.get(value)
    if (cost !== undefined) return cost
    cost = CONTAINER_COST
    if (Array.isArray(value)) for (const child of value) cost += this.#costOf(child)
    else
      for (const [name, child] of Object.entries(value))
        cost += costOfName(name) + this.#costOf(child)
    this.#costs.set(value, cost)
    return cost
  }
}

/** Builds a value from its pieces, which come in their order. */
export class JsonAssembly {
  readonly #containers: Container[] = [[]]

  get value(): unknown {
    return (this.#containers[0] as unknown[])[0]
  }

  add({ of, names, values, open }: Piece): void {
    const container = this.#containers[of] as Container
    for (const at of open) this.#containers.push(values[at] as Container)
    // The reader has refused names such as "__proto__".
    for (const [at, value] of values.entries())
      if (Array.isArray(container)) container.push(value)
      else container[names?.[at] ?? ''] = value
  }
}

function isContainer(value: unknown): value is Container {
  return typeof value === 'object' && value !== null
}

function emptyOf(container: Container): Container {
  return Array.isArray(container) ? [] : {}
}

function emptyPiece(of: number, isList: boolean): Piece {
  return { of, names: isList ? null : [], values: [], open: [] }
}

function costOfName(name: string): number {
  return NAME_COST + 2 * name.length
}
