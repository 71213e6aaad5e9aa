/**
 * The approximate index. A process of its own owns the HNSW graph; ids and the order of changes are
 * here.
 *
 * Replacing an item marks its label as deleted and assigns a new one. When more than half of the
 * labels are deleted, the graph is compacted; so is a loaded graph that has near copies as nodes.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { SerialQueue } from '../async/serial-queue.js'
import { WorkerProcess, type WorkerOptions, type WorkerStatus } from '../worker/worker-process.js'
import { compact } from './compaction.js'
import type { Commands } from './hnsw-worker.js'
import { IdMap } from './id-map.js'
import { normalise } from './normalise.js'
import { SearchGroups } from './search-groups.js'
import { findSnapshot, newFiles, publishSnapshot, removeLeftovers } from './snapshot.js'
import { checkCandidates, type Nearest } from './top-k.js'
import type { Neighbour, VectorIndex, VectorIndexOptions } from './vector-index.js'

/** Embeddings added in one step. A search waits for one step at most. */
const STEP = 64
/**
 * Labels from which on a compaction is worth it. Deleted labels cost time, and they hide items: few
 * links lead to the labels in use.
 */
const COMPACT_FROM = 32

/** Share of the exact nearest that a search has to find. */
const RECALL = 0.99
/** 16,384 embeddings of 384 dimensions take 25 MB. */
const SAMPLE_ROWS = 16_384

/**
 * A search of a large graph reads memory at random: with pages of 2 MiB it takes a quarter less. A
 * C library other than glibc ignores it.
 */
const LARGE_PAGES = 'glibc.malloc.hugetlb=1'

type Options = Omit<VectorIndexOptions, 'kind'>

export class HnswIndex implements VectorIndex {
  readonly #options: Options
  #process!: WorkerProcess<Commands>
  /** `lost` until `recover` has loaded the snapshot, `recovering` until later changes are in. */
  #state: 'open' | 'lost' | 'recovering' = 'open'
  #onReturn: () => void = () => undefined
  #discarded: string | null = null
  #ids = new IdMap()
  #position = 0
  #annRecall: number | null = null
  readonly #changes = new SerialQueue()
  #compacting = false
  /** Whether the loaded graph has many near copies as nodes of their own. */
  #isCrowded = false
  readonly #searches = new SearchGroups(async (group) => {
    const { found, recall } = await this.#process.call('search', group)
    this.#annRecall = recall
    // Before the next answer arrives: it may be that of a change, after which labels differ.
    return found.map((nearest) => this.#neighbours(nearest))
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
    index.#compactIfWorthIt()
    return index
  }

  get size(): number {
    return this.#ids.size
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
      await this.#changes.run(async () => {
        await this.#load()
        this.#state = 'recovering'
      })
      if (this.#discarded !== null) this.#options.report?.(this.#discarded)
      await repair()
      // The process may have died again: the next one has no graph yet.
      this.#refuseWhile('lost')
      this.#state = 'open'
      this.#compactIfWorthIt()
    } catch (error) {
      this.#state = 'lost'
      this.#options.report?.(`The vector index is not back yet: ${(error as Error).message}`)
      throw error
    }
  }

  has(id: string): boolean {
    return this.#ids.labelOf(id) !== undefined
  }

  ids(): Iterable<string> {
    return this.#ids.ids()
  }

  async upsert(
    entries: readonly { id: string; embedding: Float32Array }[],
    position: number,
  ): Promise<void> {
    const { dim } = this.#options
    const normalised = new Map(entries.map(({ id, embedding }) => [id, normalise(embedding, dim)]))
    await this.#changes.run(async () => {
      this.#refuseWhile('lost')
      const rows = [...normalised]
      for (let start = 0; start < rows.length; start += STEP)
        await this.#add(rows.slice(start, start + STEP))
      this.#position = position
    })
    this.#compactIfWorthIt()
  }

  async remove(ids: readonly string[], position: number): Promise<void> {
    await this.#changes.run(async () => {
      this.#refuseWhile('lost')
      const known = [...new Set(ids)].filter((id) => this.has(id))
      const deleted = this.#labelsOf(known)
      await this.#process.call('change', { labels: [], packed: new Float32Array(0), deleted })
      for (const id of known) this.#ids.release(id)
      this.#position = position
    })
    this.#compactIfWorthIt()
  }

  async search(embedding: Float32Array, candidates: number): Promise<Neighbour[]> {
    checkCandidates(candidates)
    const query = normalise(embedding, this.#options.dim)
    this.#refuseWhile('lost', 'recovering')
    return this.#searches.search(query, candidates)
  }

  save(): Promise<void> {
    return this.#changes.run(async () => {
      this.#refuseWhile('lost', 'recovering')
      const { folder, dim, fingerprint, storeIdentity } = this.#options
      const { graph: file, copies: copiesFile } = newFiles(this.#position)
      try {
        const { sha256, copies } = await this.#process.call('save', {
          file: join(folder, file),
          copiesFile: join(folder, copiesFile),
        })
        const ids = this.#ids.toJSON()
        const position = this.#position
        await publishSnapshot(folder, {
          fingerprint,
          dim,
          storeIdentity,
          position,
          copies: copies.pairs,
          ...(copies.sha256 !== null && {
            near: { labels: copies.near, file: copiesFile, sha256: copies.sha256 },
          }),
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

  /** Opens the graph of the snapshot, or an empty one, in the process. */
  async #load(): Promise<void> {
    const { folder, dim, sampleRows = SAMPLE_ROWS } = this.#options
    const options = { dim, recall: RECALL, sampleRows }
    const snapshot = await findSnapshot(folder, this.#options)
    if ('sidecar' in snapshot) {
      const { ids, copies: pairs = [], near, position } = snapshot.sidecar
      const map = await IdMap.of(ids)
      const copies = { pairs, near: near?.labels ?? [], file: snapshot.copiesFile }
      const saved = { file: snapshot.file, deleted: map.empty(), copies }
      const { count, isCrowded } = await this.#process.call('open', { ...options, saved })
      if (count === ids.length) {
        this.#isCrowded = isCrowded
        return this.#begin(map, position, null)
      }
    }
    await this.#process.call('open', { ...options, saved: null })
    const discarded =
      'sidecar' in snapshot
        ? `The snapshot in ${folder} is not used: it names other items.`
        : snapshot.discarded
    this.#begin(new IdMap(), 0, discarded)
  }

  #begin(ids: IdMap, position: number, discarded: string | null): void {
    this.#ids = ids
    this.#position = position
    this.#discarded = discarded
  }

  /** @throws TandemError `index_unavailable` */
  #refuseWhile(...states: readonly string[]): void {
    if (states.includes(this.#state)) throw this.#process.unavailable()
  }

  /** The process answers in order, so the ids are those of the graph that was searched. */
  #neighbours({ labels, similarities }: Nearest): Neighbour[] {
    return labels.flatMap((label, i) => {
      const id = this.#ids.idOf(label)
      return id === null ? [] : [{ id, similarity: similarities[i] as number }]
    })
  }

  async #add(rows: readonly (readonly [string, Float32Array])[]): Promise<void> {
    const { dim } = this.#options
    const packed = new Float32Array(rows.length * dim)
    rows.forEach(([, embedding], row) => packed.set(embedding, row * dim))
    const labels = rows.map((_, row) => this.#ids.count + row)
    const deleted = this.#labelsOf(rows.map(([id]) => id))
    await this.#process.call('change', { labels, packed, deleted })
    for (const [id] of rows) this.#ids.append(id)
  }

  #labelsOf(ids: readonly string[]): number[] {
    return ids.map((id) => this.#ids.labelOf(id)).filter((label) => label !== undefined)
  }

  #compactIfWorthIt(): void {
    const { count, size } = this.#ids
    const isWorthIt = this.#isCrowded || count >= size * 2
    if (this.#compacting || count < COMPACT_FROM || !isWorthIt) return
    this.#compacting = true
    // After a failure the graph is unchanged; the next change tries again.
    void compact({
      process: this.#process,
      ids: () => this.#ids,
      inTurn: (step) => this.#changes.run(step),
      replace: (ids) => {
        this.#ids = ids
        this.#isCrowded = false
      },
    })
      .catch(() => undefined)
      .finally(() => (this.#compacting = false))
  }
}

function startGraphProcess(
  options: Pick<WorkerOptions<Commands>, 'report' | 'onLost' | 'onReturn'>,
): Promise<WorkerProcess<Commands>> {
  return WorkerProcess.start<Commands>({
    name: 'index',
    module: new URL('./hnsw-worker.js', import.meta.url),
    code: 'index_unavailable',
    subject: 'The vector index',
    environment: { GLIBC_TUNABLES: process.env.GLIBC_TUNABLES ?? LARGE_PAGES },
    // A search takes less than a millisecond; it must not wait behind batches of the model.
    lowPriority: false,
    ...options,
  })
}
