/** A time limit also for what does not heed a signal, such as a disk that hangs. */
/**
 * What `work` resolves to, unless the time is up or the caller has gone before: then `work` is left
 * to itself.
 *
 * @param signal - of the caller; its reason is thrown
 * @param timeUp - makes what is thrown when the time is up
 */
export async function within<Result>(
  timeoutMs: number,
  signal: AbortSignal | undefined,
  timeUp: () => Error,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  signal?.throwIfAborted()
  const ended = new AbortController()
  const gone = (): void => ended.abort(signal?.reason)
  const timer = setTimeout(() => ended.abort(timeUp()), timeoutMs)
  signal?.addEventListener('abort', gone)
  try {
    const over = new Promise<never>((_, reject) => {
      // The reason of a caller is theirs to choose.
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors
      ended.signal.addEventListener('abort', () => reject(ended.signal.reason))
    })
    return await Promise.race([work(ended.signal), over])
  } catch (error) {
    // An aborted request fails in words of its own.
    ended.signal.throwIfAborted()
    throw error
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', gone)
  }
}
