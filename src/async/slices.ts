import { setImmediate } from 'node:timers/promises'

/** How long a list may be worked on before other requests get a turn. */
const SLICE_MS = 5

/** Resolves when the slices before it have had their turns of the event loop. */
let lastSlice: Promise<void> = Promise.resolve()

/**
 * The results of a synchronous function on each value, with turns of the event loop in between.
 * After its first slice, a list takes turns with other lists, so that a turn of the event loop has
 * one of their slices however many there are.
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
      lastSlice = lastSlice.then(() => setImmediate())
      await lastSlice
      signal?.throwIfAborted()
      started = performance.now()
    }
    results.push(map(value))
  }
  return results
}
