/**
 * The one writer of item store and vector index.
 *
 * Writes run a group at a time: all that arrived while the previous group was being written. So the
 * two rooms see the same order, a delete cannot overtake an add of the same id, and many small adds
 * share one commit to disk.
 */
import type { Put } from '../collection.js'
import { TandemError } from '../../errors.js'
import type { NewItem } from '../../item-store/item-store.js'
import type { VectorIndex } from '../../vector-index/vector-index.js'
import { levelIndex } from './repair.js'
import type { Serving } from './serving.js'

type Failed = (error: unknown) => void
type Write =
  | {
      kind: 'add'
      id: string
      item: NewItem
      fingerprint: string
      done: (outcome: Put) => void
      failed: Failed
    }
  | { kind: 'remove'; id: string; done: (existed: boolean) => void; failed: Failed }
  | { kind: 'turn'; id: null; work: () => Promise<void>; done: () => void; failed: Failed }

type Add = Extract<Write, { kind: 'add' }>
type Remove = Extract<Write, { kind: 'remove' }>

const LARGEST_GROUP = 512
/** Permits keep it shorter than that; this is for whoever asks without one. */
const MOST_WAITING = 2048

export class Writer {
  readonly #serving: Serving
  readonly #waiting: Write[] = []
  readonly #listeners = new Set<(ids: readonly string[]) => void>()
  #running: Promise<void> | undefined

  constructor(serving: Serving) {
    this.#serving = serving
    this.watch(serving.rooms.index)
  }

  /**
   * Brings the index level whenever its process has died and is there again. Where that fails, the
   * next write tries.
   */
  watch(index: VectorIndex): void {
    index.onReturn(() => void this.turn(() => Promise.resolve()).catch(() => undefined))
  }

  /**
   * Stores an item; resolves when it is on disk and searchable.
   * @param fingerprint - of the bundle that encoded it
   */
  add(item: NewItem, fingerprint: string): Promise<Put> {
    const { id } = item
    return new Promise((done, failed) =>
      this.#enqueue({ kind: 'add', id, item, fingerprint, done, failed }),
    )
  }

  /** Removes an item; resolves to whether there was one. */
  remove(id: string): Promise<boolean> {
    return new Promise((done, failed) => this.#enqueue({ kind: 'remove', id, done, failed }))
  }

  /**
   * Runs `work`, which may change both rooms, when the writes before it have ended and before those
   * after it begin. The index is level with the store then.
   */
  async turn<Result>(work: () => Promise<Result>): Promise<Result> {
    let result: { value: Result } | undefined
    await new Promise<void>((done, failed) =>
      this.#enqueue({
        kind: 'turn',
        id: null,
        work: async () => void (result = { value: await work() }),
        done,
        failed,
      }),
    )
    return (result as unknown as { value: Result }).value
  }

  /**
   * Calls `listener` after each change with the ids of its items, none after a turn; the answer
   * ends that.
   */
  follow(listener: (ids: readonly string[]) => void): () => void {
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
        // An index that missed a write catches up before the next one; without an index nothing is
        // written.
        await levelIndex(this.#serving.rooms)
        await this.#write(group)
      } catch (error) {
        for (const write of group) write.failed(error)
      }
      // Also after a failure, which may come when the store has changed already.
      const ids = group.flatMap(({ id }) => (id === null ? [] : [id]))
      for (const listener of this.#listeners) listener(ids)
    }
    // In the same breath as nothing was found to wait: what comes from now on starts another run.
    this.#running = undefined
  }

  async #write(group: readonly Write[]): Promise<void> {
    const [first] = group
    if (first?.kind === 'add') await this.#writeAdds(group as Add[])
    else if (first?.kind === 'remove') await this.#writeRemoves(group as Remove[])
    else if (first?.kind === 'turn') {
      await first.work()
      first.done()
    }
  }

  /**
   * The longest run of one kind at the head of the queue in which no id comes twice; a turn has
   * none, and is alone.
   */
  #takeGroup(): Write[] {
    const ids = new Set<string | null>()
    const kind = this.#waiting[0]?.kind
    if (kind === 'turn') return this.#waiting.splice(0, 1)
    const end = this.#waiting.findIndex((write, at) => {
      if (write.kind !== kind || ids.has(write.id) || at === LARGEST_GROUP) return true
      ids.add(write.id)
      return false
    })
    return this.#waiting.splice(0, end === -1 ? this.#waiting.length : end)
  }

  async #writeAdds(group: readonly Add[]): Promise<void> {
    const { store, index } = this.#serving.rooms
    const current = group.filter(({ fingerprint }) => fingerprint === store.fingerprint)
    const outcomes = current.map(({ id }): Put => (store.has(id) ? 'replaced' : 'created'))
    if (current.length > 0) {
      const { position } = await store.put(current.map(({ item }) => item))
      await index.upsert(
        current.map(({ item: { id, embedding } }) => ({ id, embedding })),
        position,
      )
    }
    for (const write of group) write.done(outcomes[current.indexOf(write)] ?? 'switched')
  }

  async #writeRemoves(group: readonly Remove[]): Promise<void> {
    const { store, index } = this.#serving.rooms
    const { position, removed } = await store.remove(group.map(({ id }) => id))
    if (removed.length > 0) await index.remove(removed, position)
    const gone = new Set(removed)
    for (const write of group) write.done(gone.has(write.id))
  }
}
