import { setImmediate } from 'node:timers/promises'

/** How long a list may be worked on before other requests get a turn. */
const SLICE_MS = 5

/**
 * The results of a synchronous function on each value, with turns of the event loop in between.
 * @throws the reason of an aborted signal; what `map` throws
 */
export async function mapInSlices<Value, Result>(
  values: readonly Value[],
  map: (value: Value) => Result,
  signal?: AbortSignal,
): Promise<Result[]> {
  const results: Result[] = []
  let started = performance.now()
  for (const value of values) {
    if (performance.now() - started > SLICE_MS) {
      await setImmediate()
      signal?.throwIfAborted()
      started = performance.now()
    }
    results.push(map(value))
  }
  return results
}
