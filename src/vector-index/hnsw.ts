/**
 * The approximate index: an HNSW graph in a thread of its own, ids and order of changes here.
 *
 * A replaced item gets a new label and its old one is marked as deleted; when more than half of the labels are, the
 * graph is copied without them, in small steps between which searches and writes go on.
 */
import { join } from 'node:path'
import type { Neighbour, VectorIndex, VectorIndexOptions } from '../vector-index.js'
import { HnswThread } from './hnsw-thread.js'
import { Labels } from './labels.js'
import { checkCandidates, normalise } from './normalise.js'
import { findSnapshot, makeFolder, newGraphFile, publishSnapshot, removeLeftovers } from './snapshot.js'

/** Embeddings that the thread adds at a time; a search waits for one such step at most. */
const STEP = 64
/** Below this, deleted labels cost too little to copy the graph. */
const COMPACT_FROM = 256

type Options = Omit<VectorIndexOptions, 'kind'>

export class HnswIndex implements VectorIndex {
  readonly discarded: string | null
  readonly #options: Options
  readonly #thread: HnswThread
  #labels: Labels
  #position: number
  /** Ends when the last change so far has; changes follow one another. */
  #changes: Promise<unknown> = Promise.resolve()
  #compacting = false

  private constructor(options: Options, thread: HnswThread, labels: Labels, position: number, discarded: string | null) {
    this.#options = options
    this.#thread = thread
    this.#labels = labels
    this.#position = position
    this.discarded = discarded
  }

  static async open(options: Options): Promise<HnswIndex> {
    const { folder, formerFolder, dim } = options
    await makeFolder(folder, formerFolder)
    const found = await findSnapshot(folder, options)
    const thread = new HnswThread()
    if ('sidecar' in found) {
      const { ids, position } = found.sidecar
      const count = await thread.call('open', { dim, file: found.file })
      if (count === ids.length) return new HnswIndex(options, thread, new Labels(ids), position, null)
    }
    await thread.call('open', { dim, file: null })
    const discarded = 'sidecar' in found ? `The snapshot in ${folder} is not used: it names other items.` : found.discarded
    return new HnswIndex(options, thread, new Labels(), 0, discarded)
  }

  get size(): number {
    return this.#labels.size
  }

  get position(): number {
    return this.#position
  }

  has(id: string): boolean {
    return this.#labels.labelOf(id) !== undefined
  }

  ids(): Iterable<string> {
    return this.#labels.ids()
  }

  async upsert(entries: readonly { id: string; embedding: Float32Array }[], position: number): Promise<void> {
    const { dim } = this.#options
    const ready = new Map(entries.map(({ id, embedding }) => [id, normalise(embedding, dim)]))
    await this.#afterOthers(async () => {
      const rows = [...ready]
      for (let start = 0; start < rows.length; start += STEP) await this.#add(rows.slice(start, start + STEP))
      this.#position = position
    })
    this.#compactWhenWorthIt()
  }

  async remove(ids: readonly string[], position: number): Promise<void> {
    await this.#afterOthers(async () => {
      const known = [...new Set(ids)].filter((id) => this.has(id))
      const deleted = this.#labelsOf(known)
      await this.#thread.call('change', { labels: [], packed: new Float32Array(0), deleted })
      for (const id of known) this.#labels.release(id)
      this.#position = position
    })
    this.#compactWhenWorthIt()
  }

  async search(embedding: Float32Array, candidates: number): Promise<Neighbour[]> {
    checkCandidates(candidates)
    const query = normalise(embedding, this.#options.dim)
    const limit = Math.min(candidates, this.size)
    if (limit === 0) return []
    const { labels, similarities } = await this.#thread.call('search', { embedding: query, candidates: limit })
    return labels.flatMap((label, i) => {
      const id = this.#labels.idOf(label)
      return id === null ? [] : [{ id, similarity: similarities[i] as number }]
    })
  }

  save(): Promise<void> {
    return this.#afterOthers(async () => {
      const { folder, dim, fingerprint, storeIdentity } = this.#options
      const file = newGraphFile(this.#position)
      try {
        const sha256 = await this.#thread.call('save', { file: join(folder, file) })
        const ids = this.#labels.toJSON()
        const position = this.#position
        await publishSnapshot(folder, { fingerprint, dim, storeIdentity, position, ids, graph: { file, sha256 } })
      } catch (error) {
        await removeLeftovers(folder).catch(() => undefined)
        throw error
      }
    })
  }

  async close(): Promise<void> {
    await this.#thread.close()
  }

  /** The thread answers in order, so a search sees the labels of the graph that it ran on. */
  async #add(rows: readonly (readonly [string, Float32Array])[]): Promise<void> {
    const { dim } = this.#options
    const packed = new Float32Array(rows.length * dim)
    rows.forEach(([, embedding], row) => packed.set(embedding, row * dim))
    const labels = rows.map((_, row) => this.#labels.count + row)
    const deleted = this.#labelsOf(rows.map(([id]) => id))
    await this.#thread.call('change', { labels, packed, deleted }, [packed.buffer])
    for (const [id] of rows) this.#labels.append(id)
  }

  #labelsOf(ids: readonly string[]): number[] {
    return ids.map((id) => this.#labels.labelOf(id)).filter((label) => label !== undefined)
  }

  #compactWhenWorthIt(): void {
    const { count, size } = this.#labels
    if (this.#compacting || count < COMPACT_FROM || count < size * 2) return
    this.#compacting = true
    // A failure leaves the graph as it was; the next change tries again.
    void this.#compact().catch(() => undefined).finally(() => (this.#compacting = false))
  }

  /** Copies labels in ascending order: those that are given out meanwhile come last, and none is missed. */
  async #compact(): Promise<void> {
    await this.#thread.call('begin-compaction', { capacity: this.#labels.size })
    /** New label → old label. */
    const copied: number[] = []
    let finished = false
    while (!finished) {
      finished = await this.#afterOthers(async () => {
        const from = this.#labels.used((copied.at(-1) ?? -1) + 1, STEP)
        if (from.length === 0) {
          await this.#endCompaction(copied)
          return true
        }
        await this.#thread.call('copy-for-compaction', { from, to: from.map((_, i) => copied.length + i) })
        copied.push(...from)
        return false
      })
    }
  }

  async #endCompaction(copied: readonly number[]): Promise<void> {
    const ids = copied.map((label) => this.#labels.idOf(label))
    // What was replaced or removed after it had been copied.
    const deleted = ids.flatMap((id, label) => (id === null ? [label] : []))
    await this.#thread.call('end-compaction', { deleted })
    this.#labels = new Labels(ids)
  }

  #afterOthers<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#changes.then(work)
    this.#changes = result.catch(() => undefined)
    return result
  }
}
