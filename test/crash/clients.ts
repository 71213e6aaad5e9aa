/** Clients that add, replace and remove items at random until the process has ended. */
import { randomNumbers } from '../support/random-embeddings.js'
import { changeBundles } from './bundle-changes.js'
import type { State } from './child.js'
import type { History } from './history.js'
import { Killed, type ServiceProcess } from './service-process.js'

const WRITERS = 6
/** Few, so that clients often change the same item and the graph is compacted now and then. */
const IDS = 120
/** Concurrent changes of one client, as in an import. */
const LARGEST_BURST = 8
const SHARE_OF_REMOVALS = 0.25
const LONGEST_WAIT_BETWEEN_SNAPSHOTS_MS = 60
const LATEST_END_OF_INDEX_MS = 300
const PAUSE_WITHOUT_INDEX_MS = 20

export interface Acknowledged {
  items: number
  bundles: number
}

/** Events in a run of the process, apart from changes of items and snapshots. */
export interface Scenario {
  initial: State
  changesBundles: boolean
  killsIndex: boolean
}

export const idOf = (number: number): string => `item-${number}`

/** Unique numbers for the versions of all items, over all starts of the process. */
export class Versions {
  #last = 0
  next(): number {
    return (this.#last += 1)
  }
}

/**
 * Runs the clients until the service ends. A write that fails without the process of the index
 * counts as not acknowledged.
 * @returns the numbers of acknowledged changes
 */
export async function runClients(
  service: ServiceProcess,
  history: History,
  versions: Versions,
  seed: number,
  scenario: Scenario,
): Promise<Acknowledged> {
  const acknowledged = { items: 0, bundles: 0 }

  const change = async (random: () => number): Promise<void> => {
    const id = idOf(Math.floor(random() * IDS))
    const version = random() < SHARE_OF_REMOVALS ? null : versions.next()
    const started = history.begin(id, version)
    try {
      await (version === null
        ? service.request('remove', { id })
        : service.request('add', { id, version }))
      history.end(started)
      acknowledged.items += 1
    } catch (error) {
      await pauseIfIndexUnavailable(error)
    }
  }
  const writer = async (random: () => number): Promise<never> => {
    for (;;)
      await settle(
        Array.from({ length: 1 + Math.floor(random() * LARGEST_BURST) }, () => change(random)),
      )
  }
  const saver = async (random: () => number): Promise<never> => {
    for (;;) {
      await new Promise((resolve) =>
        setTimeout(resolve, random() * LONGEST_WAIT_BETWEEN_SNAPSHOTS_MS),
      )
      await service.request('save', null).catch(pauseIfIndexUnavailable)
    }
  }
  const bundleChanger = (random: () => number): Promise<never> =>
    changeBundles(service, history, scenario.initial, random, () => (acknowledged.bundles += 1))
  const indexKiller = async (random: () => number): Promise<void> => {
    await new Promise((resolve) => setTimeout(resolve, random() * LATEST_END_OF_INDEX_MS))
    await service.request('kill-index', null)
  }
  const clients = [
    saver,
    ...Array.from({ length: WRITERS }, () => writer),
    ...(scenario.changesBundles ? [bundleChanger] : []),
    ...(scenario.killsIndex ? [indexKiller] : []),
  ]
  await settle(
    clients.map((client, at) =>
      client(randomNumbers(seed * 31 + at)).catch((error: unknown) => {
        if (!(error instanceof Killed)) throw error
      }),
    ),
  )
  return acknowledged
}

/** @throws `error` unless the index is unavailable, or was removed with its re-embedding */
async function pauseIfIndexUnavailable(error: unknown): Promise<void> {
  if (!(error instanceof Error) || !/^(index_unavailable|ENOENT)/.test(error.message)) throw error
  await new Promise((resolve) => setTimeout(resolve, PAUSE_WITHOUT_INDEX_MS))
}

/** Waits for all promises, then throws the first error. */
async function settle(promises: readonly Promise<unknown>[]): Promise<void> {
  const outcomes = await Promise.allSettled(promises)
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason as Error
}
