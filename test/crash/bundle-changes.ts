/**
 * The client that changes the bundle: makes the other one stand by, switches to it, ends it, over
 * and over. Which bundle serves and whether one stands by is a register of the history, as any item
 * is.
 */
import type { State } from './child.js'
import type { History } from './history.js'
import { Killed, type Life } from './service-process.js'
import { otherBundle, type BundleName } from './made-models.js'

export const THE_BUNDLES = 'the bundles'

const SHARE_OF_ENDS = 0.3
const LONGEST_PAUSE_MS = 60

/** A number for which bundle serves and whether the other one stands by. */
export function bundlesAs(serving: BundleName, hasStandby: boolean): number {
  return (serving === 'made-a' ? 0 : 1) + (hasStandby ? 2 : 0)
}

export async function changeBundles(
  life: Life,
  history: History,
  found: State,
  next: () => number,
  onChange: () => void,
): Promise<never> {
  let { serving } = found
  let hasStandby = found.standby !== null

  /** Where the standby was not level, nothing has changed. */
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
    ;[serving, hasStandby] = after
  }
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, next() * LONGEST_PAUSE_MS))
    const other = otherBundle(serving)
    if (!hasStandby) await change([serving, true], () => life.ask('begin-standby', { name: other }))
    else if (next() < SHARE_OF_ENDS)
      await change([serving, false], () => life.ask('end-standby', null))
    else await change([other, true], () => life.ask('switch', null))
  }
}
