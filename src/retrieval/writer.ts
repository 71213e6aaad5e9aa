/**
 * The one writer of item store and vector index.
 *
 * Writes run a group at a time: all that arrived while the previous group was being written. So the two rooms see the
 * same order, a delete cannot overtake an add of the same id, and many small adds share one commit to disk.
 */
import { TandemError } from '../errors.js'
import type { ItemStore, NewItem } from '../item-store.js'
import type { VectorIndex } from '../vector-index.js'
import { repairIndex } from './repair.js'

type Write =
  | { kind: 'add'; item: NewItem; done: (outcome: 'created' | 'replaced') => void; failed: (error: unknown) => void }
  | { kind: 'remove'; id: string; done: (existed: boolean) => void; failed: (error: unknown) => void }
  | { kind: 'turn'; work: () => Promise<void>; done: () => void; failed: (error: unknown) => void }

type Add = Extract<Write, { kind: 'add' }>
type Remove = Extract<Write, { kind: 'remove' }>

const LARGEST_GROUP = 512
/** Permits keep it shorter than that; this is for whoever asks without one. */
const MOST_WAITING = 2048

export class Writer {
  readonly #store: ItemStore
  readonly #index: VectorIndex
  readonly #waiting: Write[] = []
  readonly #listeners = new Set<(id: string) => void>()
  #running: Promise<void> | undefined

  constructor(store: ItemStore, index: VectorIndex) {
    this.#store = store
    this.#index = index
    // Where this fails, the next write or the next return tries again.
    index.onReturn(() => void this.level().catch(() => undefined))
  }

  /** Stores an item; resolves when it is on disk and searchable. */
  add(item: NewItem): Promise<'created' | 'replaced'> {
    return new Promise((done, failed) => this.#enqueue({ kind: 'add', item, done, failed }))
  }

  /** Removes an item; resolves to whether there was one. */
  remove(id: string): Promise<boolean> {
    return new Promise((done, failed) => this.#enqueue({ kind: 'remove', id, done, failed }))
  }

  /** Takes a turn among the writes to bring the index level with the store, as every turn begins. */
  level(): Promise<void> {
    return this.turn(() => Promise.resolve())
  }

  /** Runs `work`, which may change both rooms, when the writes before it have ended and before those after it begin. */
  async turn<Result>(work: () => Promise<Result>): Promise<Result> {
    let result: { value: Result } | undefined
    await new Promise<void>((done, failed) =>
      this.#enqueue({ kind: 'turn', work: async () => void (result = { value: await work() }), done, failed }),
    )
    return (result as unknown as { value: Result }).value
  }

  /** Calls `listener` with the id of each item that is added or removed from now on; the answer ends that. */
  follow(listener: (id: string) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Resolves when nothing waits any more, which it may not while writes keep coming. */
  async settled(): Promise<void> {
    await this.#running
  }

  #enqueue(write: Write): void {
    if (this.#waiting.length >= MOST_WAITING) {
      const sentence = `${MOST_WAITING} writes wait for the disk, the most that may; try again in a moment.`
      return write.failed(new TandemError('overloaded', sentence, { retryAfterS: 1 }))
    }
    this.#waiting.push(write)
    this.#running ??= this.#run()
  }

  async #run(): Promise<void> {
    // Adds of the same turn of the event loop belong to one group.
    await Promise.resolve()
    while (this.#waiting.length > 0) {
      const group = this.#takeGroup()
      try {
        await this.#levelIndex()
        await this.#write(group)
      } catch (error) {
        for (const write of group) write.failed(error)
      }
    }
    // In the same breath as nothing was found to wait: what comes from now on starts another run.
    this.#running = undefined
  }

  /** An index that missed a write catches up before the next one; without an index nothing is written. */
  async #levelIndex(): Promise<void> {
    const repair = (): Promise<unknown> => repairIndex(this.#store, this.#index)
    if (this.#index.lost) await this.#index.recover(repair)
    else if (this.#index.position !== this.#store.position) await repair()
  }

  /** The longest run of one kind at the head of the queue in which no id comes twice; a turn is alone. */
  #takeGroup(): Write[] {
    const ids = new Set<string>()
    const kind = this.#waiting[0]?.kind
    if (kind === 'turn') return this.#waiting.splice(0, 1)
    const end = this.#waiting.findIndex((write, at) => {
      if (write.kind === 'turn' || write.kind !== kind || at === LARGEST_GROUP) return true
      const id = idOf(write)
      if (ids.has(id)) return true
      ids.add(id)
      return false
    })
    return this.#waiting.splice(0, end === -1 ? this.#waiting.length : end)
  }

  async #write(group: readonly Write[]): Promise<void> {
    const [first] = group
    if (first?.kind === 'turn') {
      await first.work()
      return first.done()
    }
    const items = group as readonly (Add | Remove)[]
    for (const listener of this.#listeners) for (const write of items) listener(idOf(write))
    await (first?.kind === 'add' ? this.#writeAdds(group as Add[]) : this.#writeRemoves(group as Remove[]))
  }

  async #writeAdds(group: readonly Add[]): Promise<void> {
    const outcomes = group.map(({ item }) => (this.#store.has(item.id) ? 'replaced' : 'created'))
    const { position } = await this.#store.put(group.map(({ item }) => item))
    await this.#index.upsert(
      group.map(({ item: { id, embedding } }) => ({ id, embedding })),
      position,
    )
    group.forEach((write, at) => write.done(outcomes[at] ?? 'created'))
  }

  async #writeRemoves(group: readonly Remove[]): Promise<void> {
    const { position, removed } = await this.#store.remove(group.map(({ id }) => id))
    if (removed.length > 0) await this.#index.remove(removed, position)
    const gone = new Set(removed)
    for (const write of group) write.done(gone.has(write.id))
  }
}

function idOf(write: Add | Remove): string {
  return write.kind === 'add' ? write.item.id : write.id
}
