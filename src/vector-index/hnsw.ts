/**
 * The approximate index: an HNSW graph in a process of its own, ids and order of changes here.
 *
 * A replaced item gets a new label and its old one is marked as deleted; when more than half of the
 * labels are, the graph is copied without them, in small steps between which searches and writes go
 * on.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Neighbour, VectorIndex, VectorIndexOptions } from './vector-index.js'
import type { WorkerProcess, WorkerStatus } from '../worker/worker-process.js'
import { compact } from './compaction.js'
import { startGraphProcess } from './graph-process.js'
import type { Commands } from './hnsw-worker.js'
import { IdMap } from './id-map.js'
import type { Found } from './top-k.js'
import { checkCandidates, normalise } from './normalise.js'
import { SearchGroups } from './search-groups.js'
import { findSnapshot, newGraphFile, publishSnapshot, removeLeftovers } from './snapshot.js'

/** Embeddings that the process adds at a time; a search waits for one such step at most. */
const STEP = 64
/**
 * Below this, deleted labels cost too little to copy the graph. Above, they also hide others: few
 * links lead to what is left.
 */
const COMPACT_FROM = 32

/** Unless the options say otherwise. 16,384 embeddings of 384 dimensions are 25 MB. */
const RECALL = 0.99
const SAMPLE_ROWS = 16_384

type Options = Omit<VectorIndexOptions, 'kind'>

export class HnswIndex implements VectorIndex {
  readonly #options: Options
  #process!: WorkerProcess<Commands>
  /**
   * `lost` with the process, until `recover` has loaded the snapshot; `recovering` until the rest
   * is replayed.
   */
  #state: 'open' | 'lost' | 'recovering' = 'open'
  #onReturn: () => void = () => undefined
  #discarded: string | null = null
  #labels = new IdMap()
  #position = 0
  #annRecall: number | null = null
  /** Ends when the last change so far has; changes follow one another. */
  #changes: Promise<unknown> = Promise.resolve()
  #compacting = false
  readonly #searches = new SearchGroups(async (group) => {
    const { found, recall } = await this.#process.call('search', group)
    this.#annRecall = recall
    // Here, before the next answer is dealt with: that may be of a change after which the labels
    // are others.
    return found.map((one) => this.#named(one))
  })

  private constructor(options: Options) {
    this.#options = options
  }

  static async open(options: Options): Promise<HnswIndex> {
    await mkdir(options.folder, { recursive: true })
    const index = new HnswIndex(options)
    index.#process = await startGraphProcess({
      report: options.report,
      onLost: () => (index.#state = 'lost'),
      onReturn: () => index.#onReturn(),
    })
    try {
      await index.#load()
    } catch (error) {
      await index.close()
      throw error
    }
    return index
  }

  get size(): number {
    return this.#labels.size
  }

  get position(): number {
    return this.#position
  }

  get discarded(): string | null {
    return this.#discarded
  }

  get annRecall(): number | null {
    return this.#annRecall
  }

  get lost(): boolean {
    return this.#state !== 'open'
  }

  get workers(): readonly WorkerStatus[] {
    return [{ ...this.#process.status, ready: this.#process.ready && !this.lost }]
  }

  onReturn(listener: () => void): void {
    this.#onReturn = listener
  }

  async recover(repair: () => Promise<unknown>): Promise<void> {
    if (!this.#process.ready) throw this.#process.unavailable()
    try {
      await this.#afterOthers(async () => {
        await this.#load()
        this.#state = 'recovering'
      })
      if (this.#discarded !== null) this.#options.report?.(this.#discarded)
      await repair()
      // The process may have died meanwhile, and have been replaced by one without a graph.
      this.#refuseWhile('lost')
      this.#state = 'open'
    } catch (error) {
      this.#state = 'lost'
      this.#options.report?.(`The vector index is not back yet: ${(error as Error).message}`)
      throw error
    }
  }

  has(id: string): boolean {
    return this.#labels.labelOf(id) !== undefined
  }

  ids(): Iterable<string> {
    return this.#labels.ids()
  }

  async upsert(
    entries: readonly { id: string; embedding: Float32Array }[],
    position: number,
  ): Promise<void> {
    const { dim } = this.#options
    const ready = new Map(entries.map(({ id, embedding }) => [id, normalise(embedding, dim)]))
    await this.#afterOthers(async () => {
      this.#refuseWhile('lost')
      const rows = [...ready]
      for (let start = 0; start < rows.length; start += STEP)
        await this.#add(rows.slice(start, start + STEP))
      this.#position = position
    })
    this.#compactWhenWorthIt()
  }

  async remove(ids: readonly string[], position: number): Promise<void> {
    await this.#afterOthers(async () => {
      this.#refuseWhile('lost')
      const known = [...new Set(ids)].filter((id) => this.has(id))
      const deleted = this.#labelsOf(known)
      await this.#process.call('change', { labels: [], packed: new Float32Array(0), deleted })
      for (const id of known) this.#labels.release(id)
      this.#position = position
    })
    this.#compactWhenWorthIt()
  }

  async search(embedding: Float32Array, candidates: number): Promise<Neighbour[]> {
    checkCandidates(candidates)
    const query = normalise(embedding, this.#options.dim)
    this.#refuseWhile('lost', 'recovering')
    return this.#searches.search(query, candidates)
  }

  save(): Promise<void> {
    return this.#afterOthers(async () => {
      this.#refuseWhile('lost', 'recovering')
      const { folder, dim, fingerprint, storeIdentity } = this.#options
      const file = newGraphFile(this.#position)
      try {
        const sha256 = await this.#process.call('save', { file: join(folder, file) })
        const ids = this.#labels.toJSON()
        const position = this.#position
        await publishSnapshot(folder, {
          fingerprint,
          dim,
          storeIdentity,
          position,
          ids,
          graph: { file, sha256 },
        })
      } catch (error) {
        await removeLeftovers(folder).catch(() => undefined)
        throw error
      }
    })
  }

  async close(): Promise<void> {
    await this.#process.close()
  }

  /** Gives a process without a graph the one of the snapshot, or an empty one. */
  async #load(): Promise<void> {
    const { folder, dim, recall = RECALL, sampleRows = SAMPLE_ROWS } = this.#options
    const options = { dim, recall, sampleRows }
    const found = await findSnapshot(folder, this.#options)
    if ('sidecar' in found) {
      const { ids, position } = found.sidecar
      const labels = await IdMap.of(ids)
      const saved = { file: found.file, deleted: labels.empty() }
      const count = await this.#process.call('open', { ...options, saved })
      if (count === ids.length) return this.#begin(labels, position, null)
    }
    await this.#process.call('open', { ...options, saved: null })
    const discarded =
      'sidecar' in found
        ? `The snapshot in ${folder} is not used: it names other items.`
        : found.discarded
    this.#begin(new IdMap(), 0, discarded)
  }

  #begin(labels: IdMap, position: number, discarded: string | null): void {
    this.#labels = labels
    this.#position = position
    this.#discarded = discarded
  }

  /** @throws TandemError `index_unavailable` */
  #refuseWhile(...states: readonly string[]): void {
    if (states.includes(this.#state)) throw this.#process.unavailable()
  }

  /** The process answers in order, so an answer finds the labels of the graph that was searched. */
  #named({ labels, similarities }: Found): Neighbour[] {
    return labels.flatMap((label, i) => {
      const id = this.#labels.idOf(label)
      return id === null ? [] : [{ id, similarity: similarities[i] as number }]
    })
  }

  async #add(rows: readonly (readonly [string, Float32Array])[]): Promise<void> {
    const { dim } = this.#options
    const packed = new Float32Array(rows.length * dim)
    rows.forEach(([, embedding], row) => packed.set(embedding, row * dim))
    const labels = rows.map((_, row) => this.#labels.count + row)
    const deleted = this.#labelsOf(rows.map(([id]) => id))
    await this.#process.call('change', { labels, packed, deleted })
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
    void compact({
      process: this.#process,
      labels: () => this.#labels,
      inTurn: (step) => this.#afterOthers(step),
      replace: (labels) => (this.#labels = labels),
    })
      .catch(() => undefined)
      .finally(() => (this.#compacting = false))
  }

  #afterOthers<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#changes.then(work)
    this.#changes = result.catch(() => undefined)
    return result
  }
}
