/**
 * Joined abort signals and time limits.
 *
 * `AbortSignal.any` is only for signals that live as long as one request. On Node 20 a source keeps
 * an entry for every signal derived from it, and the listeners of that signal. A source that lives
 * as long as the service would keep those of all requests (nodejs/node#54614).
 */

import { setMaxListeners } from 'node:events'

/**
 * Runs `work` with a signal that aborts when one of `signals` does, with its reason, and when
 * `work` fails, so that what it started in parallel ends too. Removes its listeners afterwards.
 * @throws the reason of an aborted signal; what `work` throws
 */
export async function withSignals<Result>(
  signals: readonly (AbortSignal | undefined)[],
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const joined = new AbortController()
  const removers = signals.map((signal) => {
    const onAbort = (): void => joined.abort(signal?.reason)
    if (signal?.aborted === true) onAbort()
    // Many calls may join one signal; Node warns of more than ten listeners.
    if (signal !== undefined) setMaxListeners(0, signal)
    signal?.addEventListener('abort', onAbort, { once: true })
    return () => signal?.removeEventListener('abort', onAbort)
  })
  try {
    joined.signal.throwIfAborted()
    return await work(joined.signal)
  } catch (error) {
    joined.signal.throwIfAborted()
    joined.abort(error)
    throw error
  } finally {
    for (const remove of removers) remove()
  }
}

/**
 * As `withSignals`, with a time limit. Does not wait for work that ignores its signal, such as a
 * read from a disk that hangs.
 * @param timeUp - makes the error that is thrown when the time is up
 * @throws the reason of `signal`; the error of `timeUp`; what `work` throws
 */
export async function within<Result>(
  timeoutMs: number,
  signal: AbortSignal | undefined,
  timeUp: () => Error,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const limit = new AbortController()
  const timer = setTimeout(() => limit.abort(timeUp()), timeoutMs)
  try {
    return await withSignals([signal, limit.signal], (joined) => {
      const aborted = new Promise<never>((_, reject) => {
        // The caller chooses the reason, which may be any value.
        // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors
        joined.addEventListener('abort', () => reject(joined.reason), { once: true })
      })
      // Async, so that an error thrown at once becomes a rejection that the race handles.
      const result = async (): Promise<Result> => work(joined)
      return Promise.race([result(), aborted])
    })
  } finally {
    clearTimeout(timer)
  }
}
