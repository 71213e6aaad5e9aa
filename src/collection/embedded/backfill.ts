/**
 * Makes the encodings of a standby: walks the changes of the store, encodes the stored images with
 * the standby's models, a small group at a time, and keeps them in its view of the store and in its
 * index. What it has done is durable with each group, so it goes on from there after a restart.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { Backoff } from '../../async/backoff.js'
import { TandemError } from '../../errors.js'
import type { Change } from '../../item-store/item-store.js'
import type { Models } from '../../model/models.js'
import { levelIndex } from './repair.js'
import type { Rooms } from './serving.js'
import { isUnit } from '../../vector-index/normalise.js'

/** Images encoded at a time: a search waits no longer for the processor than they take. */
const GROUP = 8
/**
 * While the models that serve are at work, the follower waits, this long at most before each group.
 */
const LONGEST_COURTESY_MS = 100
const COURTESY_STEP_MS = 20
const FIRST_RETRY_MS = 500
const LONGEST_RETRY_MS = 30_000

export class Follower {
  readonly rooms: Rooms
  /** Why the last group failed, as a sentence; null once one has succeeded. It is tried again. */
  problem: string | null = null
  readonly #isBusy: () => boolean
  /** Ids of which the index may hold what the store does no longer. */
  readonly #changed = new Set<string>()
  /** Whether index and store agreed after the last step. */
  #isSound: boolean
  /** Images in the next group; one by one after a failure, so that the one that fails is named. */
  #group = GROUP
  #stopped = true
  #running: Promise<void> = Promise.resolve()
  #wake: () => void = () => undefined

  /**
   * @param isBusy - whether the models that serve are at work
   * @param isSound - whether index and store are known to agree
   */
  constructor(rooms: Rooms, isBusy: () => boolean, isSound: boolean) {
    this.rooms = rooms
    this.#isBusy = isBusy
    this.#isSound = isSound
  }

  /** Items that are still to be encoded. */
  get behind(): number {
    return this.rooms.store.countBehind()
  }

  /** Goes on until `stop`, whenever there is something to follow. */
  start(): void {
    this.#stopped = false
    this.#running = this.#run()
  }

  /** Resolves when the group that it was at is done. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#wake()
    await this.#running
  }

  /** To be called after changes of the store. @param ids - of items added, replaced or removed */
  hear(ids: readonly string[]): void {
    for (const id of ids) this.#changed.add(id)
    this.#wake()
  }

  /**
   * Follows the next group of changes.
   * @returns whether there may be more
   * @throws what the models or the store throw; nothing is lost then
   */
  async step(signal?: AbortSignal): Promise<boolean> {
    const { store, index } = this.rooms
    await levelIndex(this.rooms, this.#isSound)
    this.#isSound = false
    const { changes, position } = store.behind(this.#group)
    const changed = [...this.#changed]
    this.#changed.clear()
    const encodings = await this.#encode(changes, signal)
    if (changes.length > 0 || position !== store.position) {
      await store.follow(encodings, position)
      await index.upsert(encodings, position)
    }
    // Asked only now: what was removed and added again may be among what has just been followed.
    const removed = changed.filter((id) => index.has(id) && !store.has(id))
    if (removed.length > 0) await index.remove(removed, position)
    const more = changes.length === this.#group || this.#changed.size > 0
    // Removed by somebody who names no ids, as a restore does.
    if (!more && index.size !== store.size) await levelIndex(this.rooms, false)
    this.#isSound = true
    return more
  }

  async #run(): Promise<void> {
    const backoff = new Backoff(FIRST_RETRY_MS, LONGEST_RETRY_MS)
    while (!this.#stopped) {
      const awake = new Promise<void>((resolve) => (this.#wake = resolve))
      try {
        const more = await this.step()
        this.problem = null
        this.#group = GROUP
        backoff.reset()
        await (more ? this.#courtesy() : awake)
      } catch (error) {
        this.problem = (error as Error).message
        this.#group = 1
        // The index is compared as a whole before the next group.
        this.#changed.clear()
        await this.#waitUnlessStopped(backoff.ms)
        backoff.double()
      }
    }
  }

  async #encode(changes: readonly Change[], signal?: AbortSignal): Promise<(Change & Encoded)[]> {
    const { store, models } = this.rooms
    // Read before anything is awaited: the images are those of these changes.
    const found = changes.flatMap((change) => {
      const bytes = store.image(change.id)
      return bytes === undefined ? [] : [{ change, bytes }]
    })
    if (found.length === 0) return []
    const call = { priority: 'bulk', ...(signal === undefined ? {} : { signal }) } as const
    const images = found.map(({ bytes }) => bytes)
    const { encoded } = await models.encodeImages(images, call).catch((error: unknown) => {
      signal?.throwIfAborted()
      const ids = found.map(({ change }) => JSON.stringify(change.id)).join(', ')
      throw notLevel(
        `the stored images of ${ids} could not be embedded: ${(error as Error).message}`,
        error,
      )
    })
    return found.map(({ change }, at) => {
      const { embedding, imageTokens } = encoded[at] as (typeof encoded)[number]
      if (!isUnit(embedding))
        throw notLevel(`the bundle gives "${change.id}" an embedding without length 1.`)
      return { ...change, embedding, imageTokens }
    })
  }

  /** Searches come first, but the follower is not starved. */
  async #courtesy(): Promise<void> {
    for (
      let waited = 0;
      waited < LONGEST_COURTESY_MS && this.#isBusy() && !this.#stopped;
      waited += COURTESY_STEP_MS
    ) {
      await pause(COURTESY_STEP_MS)
    }
  }

  async #waitUnlessStopped(ms: number): Promise<void> {
    for (let waited = 0; waited < ms && !this.#stopped; waited += COURTESY_STEP_MS)
      await pause(COURTESY_STEP_MS)
  }
}

function notLevel(why: string, cause?: unknown): TandemError {
  return new TandemError('reembedding_not_ready', `Re-embedding makes no progress: ${why}`, {
    cause,
  })
}

type Encoded = Pick<
  Awaited<ReturnType<Models['encodeImages']>>['encoded'][number],
  'embedding' | 'imageTokens'
>
