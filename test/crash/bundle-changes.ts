/**
 * The client that changes the bundle: starts, promotes and ends re-embeddings without a pause. The
 * serving bundle and the presence of a next one form a register of the history, like an item.
 */
import type { State } from './child.js'
import type { History } from './history.js'
import { Killed, type Life } from './service-process.js'
import { otherBundle, type BundleName } from './made-models.js'

export const THE_BUNDLES = 'the bundles'

const SHARE_OF_ENDS = 0.3
const LONGEST_PAUSE_MS = 60

/** Encodes the serving bundle and the presence of a next one as a number. */
export function bundlesAs(serving: BundleName, hasNext: boolean): number {
  return (serving === 'made-a' ? 0 : 1) + (hasNext ? 2 : 0)
}

export async function changeBundles(
  life: Life,
  history: History,
  found: State,
  next: () => number,
  onChange: () => void,
): Promise<never> {
  let { serving } = found
  let hasNext = found.next !== null

  /** A refusal because the next bundle lags changes nothing. */
  const change = async (after: [BundleName, boolean], ask: () => Promise<null>): Promise<void> => {
    const begun = history.begin(THE_BUNDLES, bundlesAs(...after))
    try {
      await ask()
    } catch (error) {
      const { message } = error as Error
      if (message.startsWith('reembedding_not_ready')) return history.withdraw(begun)
      if (!message.startsWith('index_unavailable')) throw error
      // Refused before its commit or after it: the next start tells which, and this client asks no
      // more.
      await life.ended
      throw new Killed()
    }
    history.end(begun)
    onChange()
    ;[serving, hasNext] = after
  }
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, next() * LONGEST_PAUSE_MS))
    const other = otherBundle(serving)
    if (!hasNext)
      await change([serving, true], () => life.ask('start-reembedding', { name: other }))
    else if (next() < SHARE_OF_ENDS)
      await change([serving, false], () => life.ask('end-reembedding', null))
    else await change([other, true], () => life.ask('promote', null))
  }
}
