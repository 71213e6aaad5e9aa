/** The clients: each adds, replaces and removes as its own random numbers say, until the process is gone. */
import { randomNumbers } from '../vector-index/random-embeddings.js'
import type { History } from './history.js'
import { Killed, type Life } from './life.js'

const WRITERS = 6
/** Few enough that clients meet at the same ids, and that the graph is copied without deleted labels every now and then. */
const IDS = 120
/** A client sends so many changes at once at most, as an import does. */
const LARGEST_BURST = 8
const SHARE_OF_REMOVALS = 0.25
const LONGEST_WAIT_BETWEEN_SNAPSHOTS_MS = 60

export const idOf = (number: number): string => `item-${number}`

/** Numbers every version of every item, over all lives: no two are the same. */
export class Versions {
  #last = 0
  next(): number {
    return (this.#last += 1)
  }
}

/**
 * Runs the clients until the life ends.
 * @returns how many changes were acknowledged
 */
export async function runClients(life: Life, history: History, versions: Versions, seed: number): Promise<number> {
  let acknowledged = 0

  const change = async (next: () => number): Promise<void> => {
    const id = idOf(Math.floor(next() * IDS))
    const version = next() < SHARE_OF_REMOVALS ? null : versions.next()
    const begun = history.begin(id, version)
    await (version === null ? life.ask('remove', { id }) : life.ask('add', { id, version }))
    history.end(begun)
    acknowledged += 1
  }
  const writer = async (next: () => number): Promise<never> => {
    for (;;) await all(Array.from({ length: 1 + Math.floor(next() * LARGEST_BURST) }, () => change(next)))
  }
  const saver = async (next: () => number): Promise<never> => {
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, next() * LONGEST_WAIT_BETWEEN_SNAPSHOTS_MS))
      await life.ask('save', null)
    }
  }
  const clients = [saver, ...Array.from({ length: WRITERS }, () => writer)]
  await all(
    clients.map((client, at) =>
      client(randomNumbers(seed * 31 + at)).catch((error: unknown) => {
        if (!(error instanceof Killed)) throw error
      }),
    ),
  )
  return acknowledged
}

/** As Promise.all, but it waits for every one before it fails, so that nothing goes on unheard. */
async function all(promises: readonly Promise<unknown>[]): Promise<void> {
  const outcomes = await Promise.allSettled(promises)
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason as Error
}
