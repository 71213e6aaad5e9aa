/**
 * Changes the bundle without downtime. A second bundle is prepared: its backfill embeds the stored
 * images. Once its lag is small, `promote` makes it serve, and the former bundle becomes the
 * prepared one, so that changing back is as quick. The store remembers both across restarts.
 */
import { SerialQueue } from '../../async/serial-queue.js'
import { TandemError } from '../../errors.js'
import type { ItemStore, NamedBundle } from '../../item-store/item-store.js'
import type { Call } from '../../model/models.js'
import type { WorkerStatus } from '../../worker/worker-process.js'
import type { ReembeddingStatus, Reembedder } from '../collection.js'
import { Backfill } from './backfill.js'
import type { BundleCatalog } from './bundle-catalog.js'
import type { Generation } from './generation.js'
import type { Serving } from './serving.js'
import type { WriteGroups } from './write-groups.js'

/** Items that `promote` may still have to embed itself, while writes wait. */
const MAX_LAG_TO_PROMOTE = 256

export class EmbeddedReembedder implements Reembedder {
  readonly #serving: Serving
  readonly #writes: WriteGroups
  readonly #catalog: BundleCatalog
  #backfill: Backfill | null = null
  #opening: Promise<void> | null = null
  /** Why the prepared bundle could not be opened. */
  #failure: string | null = null
  readonly #commands = new SerialQueue()
  /** Resolves when the last dropped generation is closed, after its last lease. */
  #closing: Promise<unknown> = Promise.resolve()
  #closed = false

  constructor(serving: Serving, writes: WriteGroups, catalog: BundleCatalog) {
    this.#serving = serving
    this.#writes = writes
    this.#catalog = catalog
    writes.onChange((ids) => this.#backfill?.onChange(ids))
  }

  status(): { serving: NamedBundle; reembedding: ReembeddingStatus | null } {
    const { serving, next } = this.#store.bundles
    if (next === null) return { serving, reembedding: null }
    const { size: items } = this.#store
    const lag = this.#store.bundles.view(next.fingerprint).lag
    const problem = this.#failure ?? this.#backfill?.problem ?? null
    return { serving, reembedding: { ...next, state: this.#stateAt(lag), items, lag, problem } }
  }

  resume(): void {
    if (this.#store.bundles.next !== null) this.#open()
  }

  start(name: string): Promise<void> {
    return this.#commands.run(async () => {
      const fingerprint = await this.#catalog.fingerprintOf(name)
      const { serving, next } = this.#store.bundles
      if (fingerprint === serving.fingerprint) {
        throw new TandemError(
          'reembedding_conflict',
          `The bundle ${name} has the fingerprint ${fingerprint}, as the serving one: there is nothing to embed again.`,
        )
      }
      if (next !== null && fingerprint !== next.fingerprint) {
        throw new TandemError(
          'reembedding_conflict',
          `The bundle ${next.name ?? next.fingerprint} is being prepared; end that before you start ${name}.`,
        )
      }
      if (next === null) await this.#store.bundles.begin({ name, fingerprint })
      this.#open()
    })
  }

  promote(call: Call = {}): Promise<void> {
    return this.#commands.run(async () => {
      const backfill = this.#readyBackfill()
      await this.#writes.exclusive(async () => {
        await backfill.stop()
        try {
          while (await backfill.step(call.signal)) call.signal?.throwIfAborted()
          call.signal?.throwIfAborted()
          await this.#store.bundles.promote()
        } catch (error) {
          backfill.start()
          throw error
        }
        const former = this.#serving.generation
        this.#serving.replace(backfill.generation)
        this.#writes.repairOnReturn(backfill.generation.index)
        this.#startBackfill(former, true)
      })
    })
  }

  end(): Promise<void> {
    return this.#commands.run(async () => {
      const { fingerprint } = this.#next()
      await this.#opening
      const backfill = this.#backfill
      await backfill?.stop()
      await this.#store.bundles.end()
      this.#backfill = null
      this.#failure = null
      this.#closing = this.#drop(fingerprint, backfill?.generation)
    })
  }

  /** Of the prepared bundle, once it is open. */
  get generation(): Generation | null {
    return this.#backfill?.generation ?? null
  }

  get workers(): readonly WorkerStatus[] {
    const { generation } = this
    return generation === null ? [] : [...generation.models.workers, ...generation.index.workers]
  }

  /** Stops the backfill and closes its generation without saving. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#commands.idle()
    await this.#opening
    await this.#backfill?.stop()
    await this.#closing
    if (this.#backfill !== null) await closeModelsAndIndex(this.#backfill.generation)
  }

  get #store(): ItemStore {
    return this.#serving.generation.store
  }

  #stateAt(lag: number): ReembeddingStatus['state'] {
    if (this.#failure !== null) return 'failed'
    if (this.#backfill === null) return 'opening'
    return lag > 0 ? 'embedding' : 'ready'
  }

  /** Opens the prepared bundle in the background, unless it is open or being opened. */
  #open(): void {
    if (this.#backfill !== null || this.#closed) return
    this.#failure = null
    this.#opening ??= this.#openNext()
      .catch((error: unknown) => {
        this.#failure = (error as Error).message
      })
      .finally(() => {
        this.#opening = null
      })
  }

  async #openNext(): Promise<void> {
    const { name, fingerprint } = this.#next()
    if (name === null)
      throw new Error(
        `The store does not know the folder of the bundle with the fingerprint ${fingerprint}.`,
      )
    await this.#closing
    const view = this.#store.bundles.view(fingerprint)
    this.#startBackfill(await this.#catalog.open(name, view), false)
  }

  #startBackfill(generation: Generation, isSound: boolean): void {
    const isBusy = (): boolean => {
      const { queueDepth, inFlight } = this.#serving.generation.models.stats()
      return queueDepth + inFlight > 0
    }
    this.#backfill = new Backfill(generation, isBusy, isSound)
    this.#backfill.start()
  }

  #next(): NamedBundle {
    const { next } = this.#store.bundles
    if (next === null) throw new TandemError('reembedding_not_found')
    return next
  }

  #readyBackfill(): Backfill {
    const { name, fingerprint } = this.#next()
    const notReady = (reason: string): TandemError =>
      new TandemError(
        'reembedding_not_ready',
        `The bundle ${name ?? fingerprint} cannot serve yet: ${reason}`,
      )
    if (this.#backfill === null)
      throw notReady(this.#failure ?? 'its models are still being loaded.')
    const { lag } = this.#backfill
    if (lag <= MAX_LAG_TO_PROMOTE) return this.#backfill
    throw notReady(`${lag} of ${this.#store.size} items are still to be embedded.`)
  }

  async #drop(fingerprint: string, generation: Generation | undefined): Promise<void> {
    if (generation !== undefined) {
      await this.#serving.idle(generation)
      // The files are removed even if a process does not end properly.
      await closeModelsAndIndex(generation).catch(() => undefined)
    }
    await this.#catalog.discard(fingerprint).catch(() => undefined)
  }
}

/** The store stays open: both generations share it. */
async function closeModelsAndIndex({ index, models }: Generation): Promise<void> {
  await index.close()
  await models.close()
}
