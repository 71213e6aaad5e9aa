/**
 * The client that changes the bundle: it starts, promotes and ends re-embeddings. The serving
 * bundle and the presence of a next one form a register of the history, like an item.
 */
import type { State } from './child.js'
import type { History } from './history.js'
import { Killed, type ServiceProcess } from './service-process.js'
import { otherBundle, type BundleName } from './fake-models.js'

export const BUNDLES = 'the bundles'

const SHARE_OF_ENDS = 0.3
const LONGEST_PAUSE_MS = 60

/** Encodes the serving bundle and the presence of a next one as a number. */
export function bundlesValue(serving: BundleName, hasNext: boolean): number {
  return (serving === 'bundle-a' ? 0 : 1) + (hasNext ? 2 : 0)
}

export async function changeBundles(
  service: ServiceProcess,
  history: History,
  initial: State,
  random: () => number,
  onChange: () => void,
): Promise<never> {
  let { serving } = initial
  let hasNext = initial.next !== null

  const change = async (
    after: [BundleName, boolean],
    request: () => Promise<null>,
  ): Promise<void> => {
    const started = history.begin(BUNDLES, bundlesValue(...after))
    try {
      await request()
    } catch (error) {
      const { message } = error as Error
      if (message.startsWith('reembedding_not_ready')) return history.withdraw(started)
      if (!message.startsWith('index_unavailable')) throw error
      // The change may have been committed or not, so this client waits for the next start.
      await service.ended
      throw new Killed()
    }
    history.end(started)
    onChange()
    ;[serving, hasNext] = after
  }
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, random() * LONGEST_PAUSE_MS))
    const other = otherBundle(serving)
    if (!hasNext)
      await change([serving, true], () => service.request('start-reembedding', { name: other }))
    else if (random() < SHARE_OF_ENDS)
      await change([serving, false], () => service.request('end-reembedding', null))
    else await change([other, true], () => service.request('promote', null))
  }
}
