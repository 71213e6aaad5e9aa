/**
 * The clients: each adds, replaces and removes as its own random numbers say, until the process is
 * gone.
 */
import { randomNumbers } from '../support/random-embeddings.js'
import { changeBundles } from './bundle-changes.js'
import type { State } from './child.js'
import type { History } from './history.js'
import { Killed, type Life } from './service-process.js'

const WRITERS = 6
/**
 * Few enough that clients meet at the same ids, and that the graph is copied without deleted labels
 * every now and then.
 */
const IDS = 120
/** A client sends so many changes at once at most, as an import does. */
const LARGEST_BURST = 8
const SHARE_OF_REMOVALS = 0.25
const LONGEST_WAIT_BETWEEN_SNAPSHOTS_MS = 60
const LATEST_DEATH_OF_INDEX_MS = 300
const PAUSE_WITHOUT_INDEX_MS = 20

export interface Acknowledged {
  items: number
  bundles: number
}

/** What else happens in a life than adds, replaces, removals and snapshots. */
export interface Play {
  found: State
  changesBundles: boolean
  killsIndex: boolean
}

export const idOf = (number: number): string => `item-${number}`

/** Numbers every version of every item, over all lives: no two are the same. */
export class Versions {
  #last = 0
  next(): number {
    return (this.#last += 1)
  }
}

/**
 * Runs the clients until the life ends. A write that is refused because the process of the index is
 * gone is one without acknowledgement.
 * @returns how many changes were acknowledged, of items and of the bundle
 */
export async function runClients(
  life: Life,
  history: History,
  versions: Versions,
  seed: number,
  play: Play,
): Promise<Acknowledged> {
  const acknowledged = { items: 0, bundles: 0 }

  const change = async (next: () => number): Promise<void> => {
    const id = idOf(Math.floor(next() * IDS))
    const version = next() < SHARE_OF_REMOVALS ? null : versions.next()
    const begun = history.begin(id, version)
    try {
      await (version === null ? life.ask('remove', { id }) : life.ask('add', { id, version }))
      history.end(begun)
      acknowledged.items += 1
    } catch (error) {
      await pauseIfIndexIsAway(error)
    }
  }
  const writer = async (next: () => number): Promise<never> => {
    for (;;)
      await all(Array.from({ length: 1 + Math.floor(next() * LARGEST_BURST) }, () => change(next)))
  }
  const saver = async (next: () => number): Promise<never> => {
    for (;;) {
      await new Promise((resolve) =>
        setTimeout(resolve, next() * LONGEST_WAIT_BETWEEN_SNAPSHOTS_MS),
      )
      await life.ask('save', null).catch(pauseIfIndexIsAway)
    }
  }
  const changer = (next: () => number): Promise<never> =>
    changeBundles(life, history, play.found, next, () => (acknowledged.bundles += 1))
  const killer = async (next: () => number): Promise<void> => {
    await new Promise((resolve) => setTimeout(resolve, next() * LATEST_DEATH_OF_INDEX_MS))
    await life.ask('kill-index', null)
  }
  const clients = [
    saver,
    ...Array.from({ length: WRITERS }, () => writer),
    ...(play.changesBundles ? [changer] : []),
    ...(play.killsIndex ? [killer] : []),
  ]
  await all(
    clients.map((client, at) =>
      client(randomNumbers(seed * 31 + at)).catch((error: unknown) => {
        if (!(error instanceof Killed)) throw error
      }),
    ),
  )
  return acknowledged
}

/**
 * @throws any error but that there is no index for the moment, or not any more: that of a standby
 * which was ended
 */
async function pauseIfIndexIsAway(error: unknown): Promise<void> {
  if (!(error instanceof Error) || !/^(index_unavailable|ENOENT)/.test(error.message)) throw error
  await new Promise((resolve) => setTimeout(resolve, PAUSE_WITHOUT_INDEX_MS))
}

/** As Promise.all, but it waits for every one before it fails, so that nothing goes on unheard. */
async function all(promises: readonly Promise<unknown>[]): Promise<void> {
  const outcomes = await Promise.allSettled(promises)
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason as Error
}
