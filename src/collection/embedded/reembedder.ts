/**
 * The change of bundle without downtime: a second bundle stands by, its follower embeds the stored
 * images, and once it is level a switch makes it the one that serves. Then the bundle that served
 * stands by, so that switching back is as quick. The store remembers all of it; a restart goes on
 * where it was.
 */
import { TandemError } from '../../errors.js'
import type { ItemStore, NamedBundle } from '../../item-store/item-store.js'
import type { Call } from '../../model/models.js'
import { Follower } from './backfill.js'
import type { Rooms, Serving } from './serving.js'
import type { WorkerStatus } from '../../worker/worker-process.js'
import type { Writer } from './write-groups.js'

/**
 * So many items at most may be left for the switch itself, which holds up writes while it follows
 * them.
 */
const MOST_LEFT_TO_SWITCH = 256

/** The bundles that a service can change to, by the names of their folders. */
export interface BundleShelf {
  /** Verifies a bundle. @throws TandemError bundle_unusable */
  fingerprintOf(name: string): Promise<string>
  /** Opens its models, and its index of `store`. */
  open(name: string, store: ItemStore): Promise<Rooms>
  /** Removes what is kept of its index. */
  discard(fingerprint: string): Promise<void>
}

export interface StandbyStatus extends NamedBundle {
  /**
   * `opening`: its models are loaded; `following`: it lacks items; `level`: it can serve; `failed`:
   * see `problem`.
   */
  state: 'opening' | 'following' | 'level' | 'failed'
  items: number
  /** How many of them it has still to encode. */
  behind: number
  /** Why it does not get on, as a sentence; null where it does. */
  problem: string | null
}

export class Standby {
  readonly #serving: Serving
  readonly #writer: Writer
  readonly #shelf: BundleShelf
  #follower: Follower | null = null
  #opening: Promise<void> | null = null
  /** Why the bundle could not be opened. */
  #failure: string | null = null
  /** Ends when the last command has: they follow one another. */
  #commands: Promise<unknown> = Promise.resolve()
  /** Ends when the rooms of the last standby are closed, which waits for their last visitor. */
  #closing: Promise<unknown> = Promise.resolve()
  #closed = false

  constructor(serving: Serving, writer: Writer, shelf: BundleShelf) {
    this.#serving = serving
    this.#writer = writer
    this.#shelf = shelf
    writer.follow((ids) => this.#follower?.hear(ids))
  }

  /** The bundle that serves, and how far the one that stands by is; null where none does. */
  status(): { serving: NamedBundle; standby: StandbyStatus | null } {
    const { serving, standby } = this.#store.bundles
    if (standby === null) return { serving, standby: null }
    const { size } = this.#store
    const behind = this.#store.bundles.view(standby.fingerprint).countBehind()
    const problem = this.#failure ?? this.#follower?.problem ?? null
    return {
      serving,
      standby: { ...standby, state: this.#stateAt(behind), items: size, behind, problem },
    }
  }

  /**
   * Goes on with the standby that the store remembers, if it remembers one. Opening it goes on
   * behind.
   */
  resume(): void {
    if (this.#store.bundles.standby !== null) this.#open()
  }

  /**
   * Makes the bundle in the folder `name` stand by and begins to follow. The same again goes on, or
   * tries again to open it.
   * @throws TandemError bundle_unusable; reembedding_conflict where it serves, or another one stands by
   */
  start(name: string): Promise<void> {
    return this.#command(async () => {
      const fingerprint = await this.#shelf.fingerprintOf(name)
      const { serving, standby } = this.#store.bundles
      if (fingerprint === serving.fingerprint) {
        throw new TandemError(
          'reembedding_conflict',
          `The bundle ${name} has the fingerprint ${fingerprint}, as the one that serves: there is nothing to embed again.`,
        )
      }
      if (standby !== null && fingerprint !== standby.fingerprint) {
        throw new TandemError(
          'reembedding_conflict',
          `The bundle ${standby.name ?? standby.fingerprint} is being prepared already; end that before ${name} can start.`,
        )
      }
      if (standby === null) await this.#store.bundles.begin({ name, fingerprint })
      this.#open()
    })
  }

  /**
   * The standby serves from now on, and the bundle that served stands by. Writes wait for it;
   * requests under way end with the bundle that they began with.
   * @throws TandemError reembedding_not_found; reembedding_not_ready; the reason of the call's signal, and
   *   then nothing changes
   */
  switch(call: Call = {}): Promise<void> {
    return this.#command(async () => {
      const follower = this.#levelFollower()
      await this.#writer.turn(async () => {
        await follower.stop()
        try {
          while (await follower.step(call.signal)) call.signal?.throwIfAborted()
          call.signal?.throwIfAborted()
          await this.#store.bundles.switch()
        } catch (error) {
          follower.start()
          throw error
        }
        const former = this.#serving.rooms
        this.#serving.swap(follower.rooms)
        this.#writer.watch(follower.rooms.index)
        this.#follow(former, true)
      })
    })
  }

  /** Drops the standby and its encodings. @throws TandemError reembedding_not_found */
  end(): Promise<void> {
    return this.#command(async () => {
      const standby = this.#found()
      await this.#opening
      const follower = this.#follower
      await follower?.stop()
      await this.#store.bundles.end()
      this.#follower = null
      this.#failure = null
      this.#closing = this.#clear(standby.fingerprint, follower?.rooms)
    })
  }

  /** The rooms of the standby, once they are open. */
  get rooms(): Rooms | null {
    return this.#follower?.rooms ?? null
  }

  /** The processes of the standby; none where there is none. */
  get workers(): readonly WorkerStatus[] {
    return this.rooms === null ? [] : [...this.rooms.models.workers, ...this.rooms.index.workers]
  }

  /** Ends following, and closes the rooms of the standby without saving. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#commands
    await this.#opening
    await this.#follower?.stop()
    await this.#closing
    if (this.#follower !== null) await closeAll(this.#follower.rooms)
  }

  get #store(): ItemStore {
    return this.#serving.rooms.store
  }

  #stateAt(behind: number): StandbyStatus['state'] {
    if (this.#failure !== null) return 'failed'
    if (this.#follower === null) return 'opening'
    return behind > 0 ? 'following' : 'level'
  }

  /** Opens the standby's rooms behind, unless they are open or being opened. */
  #open(): void {
    if (this.#follower !== null || this.#closed) return
    this.#failure = null
    this.#opening ??= this.#openRooms()
      .catch((error: unknown) => {
        this.#failure = (error as Error).message
      })
      .finally(() => {
        this.#opening = null
      })
  }

  async #openRooms(): Promise<void> {
    const { name, fingerprint } = this.#found()
    if (name === null)
      throw new Error(
        `The store does not know the folder of the bundle of fingerprint ${fingerprint}.`,
      )
    await this.#closing
    const rooms = await this.#shelf.open(name, this.#store.bundles.view(fingerprint))
    this.#follow(rooms, false)
  }

  #follow(rooms: Rooms, isSound: boolean): void {
    const isBusy = (): boolean => {
      const { queueDepth, inFlight } = this.#serving.rooms.models.stats()
      return queueDepth + inFlight > 0
    }
    this.#follower = new Follower(rooms, isBusy, isSound)
    this.#follower.start()
  }

  #found(): NamedBundle {
    const { standby } = this.#store.bundles
    if (standby === null)
      throw new TandemError('reembedding_not_found', 'No bundle is being prepared.')
    return standby
  }

  #levelFollower(): Follower {
    const { name, fingerprint } = this.#found()
    const sentence = `The bundle ${name ?? fingerprint} cannot serve yet: `
    if (this.#follower === null) {
      throw new TandemError(
        'reembedding_not_ready',
        `${sentence}${this.#failure ?? 'its models are being loaded.'}`,
      )
    }
    const { behind } = this.#follower
    if (behind <= MOST_LEFT_TO_SWITCH) return this.#follower
    throw new TandemError(
      'reembedding_not_ready',
      `${sentence}${behind} of ${this.#store.size} items are still to be embedded.`,
    )
  }

  async #clear(fingerprint: string, rooms: Rooms | undefined): Promise<void> {
    if (rooms !== undefined) {
      await this.#serving.empty(rooms)
      // A process that does not end as asked is no reason to keep what it left.
      await closeAll(rooms).catch(() => undefined)
    }
    await this.#shelf.discard(fingerprint).catch(() => undefined)
  }

  #command<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#commands.then(work)
    this.#commands = result.catch(() => undefined)
    return result
  }
}

/** All but the store, which the two bundles share. */
async function closeAll({ index, models }: Rooms): Promise<void> {
  await index.close()
  await models.close()
}
