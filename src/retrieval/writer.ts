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
  | { kind: 'level'; id: null; done: () => void; failed: (error: unknown) => void }

type Add = Extract<Write, { kind: 'add' }>
type Remove = Extract<Write, { kind: 'remove' }>
type Level = Extract<Write, { kind: 'level' }>

const LARGEST_GROUP = 512
/** Permits keep it shorter than that; this is for whoever asks without one. */
const MOST_WAITING = 2048

export class Writer {
  readonly #store: ItemStore
  readonly #index: VectorIndex
  readonly #waiting: Write[] = []
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

  /** Takes a turn among the writes to bring the index level with the store. */
  level(): Promise<void> {
    return new Promise((done, failed) => this.#enqueue({ kind: 'level', id: null, done, failed }))
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

  async #write(group: readonly Write[]): Promise<void> {
    const kind = group[0]?.kind
    if (kind === 'add') await this.#writeAdds(group as Add[])
    else if (kind === 'remove') await this.#writeRemoves(group as Remove[])
    else for (const write of group as Level[]) write.done()
  }

  /** The longest run of one kind at the head of the queue in which no id comes twice. */
  #takeGroup(): Write[] {
    const ids = new Set<string | null>()
    const kind = this.#waiting[0]?.kind
    const end = this.#waiting.findIndex((write, at) => {
      const id = write.kind === 'add' ? write.item.id : write.id
      if (write.kind !== kind || ids.has(id) || at === LARGEST_GROUP) return true
      ids.add(id)
      return false
    })
    return this.#waiting.splice(0, end === -1 ? this.#waiting.length : end)
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
