import { setTimeout as pause } from 'node:timers/promises'
import { Backoff } from '../../async/backoff.js'
import { TandemError } from '../../errors.js'
import type { Change, Encoding } from '../../item-store/item-store.js'
import { isUnit } from '../../vector-index/normalise.js'
import type { Generation } from './generation.js'
import { repairIfBehind } from './repair.js'

/** Images encoded at a time: a search never waits longer for the processor than they take. */
const GROUP = 8
/** The longest wait before each group while the serving models are busy. */
const MAX_YIELD_MS = 100
const POLL_MS = 20
const FIRST_RETRY_MS = 500
const MAX_RETRY_MS = 30_000

/**
 * Embeds the stored images with a bundle that does not serve, in the order of the store's changes,
 * and adds them to that bundle's view of the store and to its index. Each group is durable, so a
 * restart continues behind the last one.
 */
export class Backfill {
  readonly generation: Generation
  /** Why the last group failed, as a sentence; null after a success. Failed groups are retried. */
  problem: string | null = null
  readonly #isBusy: () => boolean
  /** Ids that the index may have and the store may lack. */
  readonly #changed = new Set<string>()
  /** Whether index and store agreed after the last step. */
  #isSound: boolean
  /** Images in the next group; 1 after a failure, so that the error names the image. */
  #group = GROUP
  #stopped = true
  #running: Promise<void> = Promise.resolve()
  #wake: () => void = () => undefined

  /**
   * @param isBusy - whether the serving models are busy
   * @param isSound - whether index and store are known to agree
   */
  constructor(generation: Generation, isBusy: () => boolean, isSound: boolean) {
    this.generation = generation
    this.#isBusy = isBusy
    this.#isSound = isSound
  }

  /** Items not yet embedded. */
  get lag(): number {
    return this.generation.store.lag
  }

  /** Runs until `stop`, sleeping while there is nothing to embed. */
  start(): void {
    this.#stopped = false
    this.#running = this.#run()
  }

  /** Resolves when the current group is done. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#wake()
    await this.#running
  }

  /** Reports a change of the store. @param ids - of items added, replaced or removed */
  onChange(ids: readonly string[]): void {
    for (const id of ids) this.#changed.add(id)
    this.#wake()
  }

  /**
   * Embeds the next group of changes.
   * @returns whether there may be more
   * @throws what the models or the store throw; the group is then retried by the next step
   */
  async step(signal?: AbortSignal): Promise<boolean> {
    const { store, index } = this.generation
    await repairIfBehind(this.generation, this.#isSound)
    this.#isSound = false
    const { changes, position } = store.pending(this.#group)
    const changed = [...this.#changed]
    this.#changed.clear()
    const encodings = await this.#encode(changes, signal)
    if (changes.length > 0 || position !== store.position) {
      await store.addEncodings(encodings, position)
      await index.upsert(encodings, position)
    }
    // Checked last: an item removed and added again may be in the group just stored.
    const removed = changed.filter((id) => index.has(id) && !store.has(id))
    if (removed.length > 0) await index.remove(removed, position)
    const more = changes.length === this.#group || this.#changed.size > 0
    // A restore removes items without reporting their ids.
    if (!more && index.size !== store.size) await repairIfBehind(this.generation, false)
    this.#isSound = true
    return more
  }

  async #run(): Promise<void> {
    const backoff = new Backoff(FIRST_RETRY_MS, MAX_RETRY_MS)
    while (!this.#stopped) {
      const awake = new Promise<void>((resolve) => (this.#wake = resolve))
      try {
        const more = await this.step()
        this.problem = null
        this.#group = GROUP
        backoff.reset()
        await (more ? this.#pauseWhile(this.#isBusy, MAX_YIELD_MS) : awake)
      } catch (error) {
        this.problem = (error as Error).message
        this.#group = 1
        // The next step compares the whole index.
        this.#changed.clear()
        await this.#pauseWhile(() => true, backoff.ms)
        backoff.double()
      }
    }
  }

  async #encode(changes: readonly Change[], signal?: AbortSignal): Promise<(Change & Encoding)[]> {
    const { store, models } = this.generation
    // Read before any await, so that each image is the one of its change.
    const images = changes.flatMap((change) => {
      const bytes = store.image(change.id)
      return bytes === undefined ? [] : [{ change, bytes }]
    })
    if (images.length === 0) return []
    const { encoded } = await models
      .encodeImages(
        images.map(({ bytes }) => bytes),
        { priority: 'bulk', signal },
      )
      .catch((error: unknown) => {
        signal?.throwIfAborted()
        const ids = images.map(({ change }) => JSON.stringify(change.id)).join(', ')
        throw notReady(
          `the stored images of ${ids} could not be embedded: ${(error as Error).message}`,
          error,
        )
      })
    return images.map(({ change }, at) => {
      const { embedding, imageTokens } = encoded[at] as (typeof encoded)[number]
      if (!isUnit(embedding))
        throw notReady(`the bundle's embedding of "${change.id}" does not have length 1.`)
      return { ...change, embedding, imageTokens }
    })
  }

  /** Waits while `condition` holds, for `ms` at most; ends early when stopped. */
  async #pauseWhile(condition: () => boolean, ms: number): Promise<void> {
    for (let waited = 0; waited < ms && condition() && !this.#stopped; waited += POLL_MS)
      await pause(POLL_MS)
  }
}

function notReady(reason: string, cause?: unknown): TandemError {
  return new TandemError('reembedding_not_ready', `Re-embedding makes no progress: ${reason}`, {
    cause,
  })
}
