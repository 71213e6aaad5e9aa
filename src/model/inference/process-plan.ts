/** How the threads that inference may have on the CPU are divided among processes. */

/** What one process with one thread was found to need. */
export interface Need {
  /** Bytes of memory with the graphs loaded. */
  memory: number
  /** Milliseconds that the encoding of one image takes. */
  image: number
}

export interface ProcessPlan {
  processes: number
  /** Of each process. */
  threads: number
}

/**
 * Of the memory, inference takes so much at most; the rest is for items, index and the page cache.
 */
const SHARE_OF_MEMORY = 0.5
/**
 * One that asks for an image alone should not wait longer than this where more threads would help.
 */
const MAX_IMAGE_MS = 250

/**
 * A process with one thread wastes nothing: threads that share a run wait for one another, and on
 * two cores a text cost
 * 1.7 times the core time it costs on one thread (docs/benchmarks.md). So there are as many processes as threads, unless an
 * image would take too long on one or the memory does not hold so many.
 *
 * @param threads - in all; 1 at least
 * @param memory - bytes that the service may use
 */
export function planProcesses(threads: number, memory: number, need: Need): ProcessPlan {
  const quick = Math.min(threads, Math.max(1, Math.ceil(need.image / MAX_IMAGE_MS)))
  const fitting = Math.max(1, Math.floor((memory * SHARE_OF_MEMORY) / need.memory))
  const processes = Math.min(Math.floor(threads / quick), fitting)
  return { processes, threads: Math.floor(threads / processes) }
}
