/**
 * Runs `work` with a signal that fires when one of `signals` does, with its reason, and when the
 * work has failed: what else it began is then for nothing. Nothing is left on the signals
 * afterwards, which may live as long as the service.
 */
export async function withEither<Result>(
  signals: readonly (AbortSignal | undefined)[],
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const controller = new AbortController()
  const ends = signals.map((signal) => {
    const onAbort = (): void => controller.abort(signal?.reason)
    if (signal?.aborted === true) onAbort()
    signal?.addEventListener('abort', onAbort, { once: true })
    return () => signal?.removeEventListener('abort', onAbort)
  })
  try {
    controller.signal.throwIfAborted()
    return await work(controller.signal)
  } catch (error) {
    controller.abort(error)
    throw error
  } finally {
    for (const end of ends) end()
  }
}
