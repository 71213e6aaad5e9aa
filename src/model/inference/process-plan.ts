/** Divides the CPU threads of inference among processes. */

/** Measured in one process with one thread. */
export interface Need {
  /** Bytes of memory with the graphs loaded. */
  memory: number
  /** Milliseconds to encode one image. */
  image: number
}

export interface ProcessPlan {
  processes: number
  /** Threads of each process. */
  threads: number
}

/** Maximum share of inference; the rest is for items, the index and the page cache. */
const MEMORY_SHARE = 0.5
/** Target for a single image; a process gets more threads to reach it. */
const MAX_IMAGE_MS = 250

/**
 * Plans one thread for each process: threads that share a run wait for each other, and on two cores
 * a text takes 1.7 times the core time of one thread (docs/benchmarks.md). Processes get more
 * threads where one is too slow for an image or the memory holds fewer processes.
 *
 * @param threads - total, at least 1
 * @param memory - bytes that the service may use
 */
export function planProcesses(threads: number, memory: number, need: Need): ProcessPlan {
  const quick = Math.min(threads, Math.max(1, Math.ceil(need.image / MAX_IMAGE_MS)))
  const fitting = Math.max(1, Math.floor((memory * MEMORY_SHARE) / need.memory))
  const processes = Math.min(Math.floor(threads / quick), fitting)
  return { processes, threads: Math.floor(threads / processes) }
}
