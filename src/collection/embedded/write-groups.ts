/**
 * The only writer of item store and vector index. Both see the same order of changes, and a delete
 * cannot overtake an add of the same id.
 */
import { GroupCommit } from '../../async/group-commit.js'
import type { NewItem } from '../../item-store/item-store.js'
import type { VectorIndex } from '../../vector-index/vector-index.js'
import type { PutCondition, PutOutcome } from '../collection.js'
import { repairIfBehind } from './repair.js'
import type { Serving } from './serving.js'

type Write =
  | {
      kind: 'add'
      id: string
      item: NewItem
      fingerprint: string
      condition: PutCondition | undefined
    }
  | { kind: 'remove'; id: string }
  | { kind: 'exclusive'; id: null; work: () => Promise<unknown> }

type Add = Extract<Write, { kind: 'add' }>

const MAX_GROUP = 512

export class WriteGroups {
  readonly #serving: Serving
  readonly #listeners = new Set<(ids: readonly string[]) => void>()
  readonly #groups: GroupCommit<Write, unknown>

  constructor(serving: Serving) {
    this.#serving = serving
    this.#groups = new GroupCommit({
      maxGroup: MAX_GROUP,
      target: 'the disk',
      commit: (group) => this.#commit(group),
    })
    this.repairOnReturn(serving.generation.index)
  }

  /** Repairs the index whenever its process is back. If that fails, the next write retries. */
  repairOnReturn(index: VectorIndex): void {
    index.onReturn(() => void this.exclusive(() => Promise.resolve()).catch(() => undefined))
  }

  /**
   * Stores an item; resolves when it is on disk and searchable.
   * @param fingerprint - of the bundle that encoded it
   */
  add(item: NewItem, fingerprint: string, condition?: PutCondition): Promise<PutOutcome> {
    const write: Write = { kind: 'add', id: item.id, item, fingerprint, condition }
    return this.#groups.add(write) as Promise<PutOutcome>
  }

  /** Resolves to whether the item existed. */
  remove(id: string): Promise<boolean> {
    return this.#groups.add({ kind: 'remove', id }) as Promise<boolean>
  }

  /**
   * Runs `work`, which may change store and index, between the writes before and after it. The
   * index is up to date with the store when it begins.
   */
  exclusive<Result>(work: () => Promise<Result>): Promise<Result> {
    return this.#groups.add({ kind: 'exclusive', id: null, work }) as Promise<Result>
  }

  /**
   * Calls `listener` after each group with the ids it changed; none after `exclusive`.
   * @returns a function that removes the listener
   */
  onChange(listener: (ids: readonly string[]) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Resolves when no write waits. */
  settled(): Promise<void> {
    return this.#groups.settled()
  }

  async #commit(group: readonly Write[]): Promise<readonly unknown[]> {
    try {
      // Without an index nothing is written; one that missed a write is repaired first.
      await repairIfBehind(this.#serving.generation)
      const [first] = group
      if (first?.kind === 'exclusive') return [await first.work()]
      return first?.kind === 'add'
        ? await this.#commitAdds(group as Add[])
        : await this.#commitRemoves(group.map(({ id }) => id as string))
    } finally {
      // Also after a failure: the store may have changed already.
      const ids = group.flatMap(({ id }) => (id === null ? [] : [id]))
      for (const listener of this.#listeners) listener(ids)
    }
  }

  async #commitAdds(group: readonly Add[]): Promise<PutOutcome[]> {
    const { store, index } = this.#serving.generation
    const encoded = group.filter(({ fingerprint }) => fingerprint === store.fingerprint)
    const current = encoded.filter(({ id, condition }) => {
      if (condition === undefined) return true
      const item = store.get(id)
      return condition(item && { item, image: store.image(id) })
    })
    const outcomes = new Map<string, PutOutcome>([
      ...encoded.map(({ id }) => [id, 'unmet'] as const),
      ...current.map(({ id }) => [id, store.has(id) ? 'replaced' : 'created'] as const),
    ])
    if (current.length > 0) {
      const items = current.map(({ item }) => item)
      const { position } = await store.put(items)
      await index.upsert(
        items.map(({ id, embedding }) => ({ id, embedding })),
        position,
      )
    }
    return group.map(({ id }) => outcomes.get(id) ?? 'outdated')
  }

  async #commitRemoves(ids: readonly string[]): Promise<boolean[]> {
    const { store, index } = this.#serving.generation
    const { position, removed } = await store.remove(ids)
    if (removed.length > 0) await index.remove(removed, position)
    const gone = new Set(removed)
    return ids.map((id) => gone.has(id))
  }
}
