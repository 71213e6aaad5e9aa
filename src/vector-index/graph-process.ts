/** Starts the process that owns the graph. */
import { WorkerProcess, type WorkerOptions } from '../worker/worker-process.js'
import type { Commands } from './hnsw-worker.js'

/**
 * A search of a large graph jumps about in memory: with pages of 2 MiB it takes a quarter less.
 * What glibc does not know it passes over.
 */
const LARGE_PAGES = 'glibc.malloc.hugetlb=1'

export function startGraphProcess(
  told: Pick<WorkerOptions<Commands>, 'report' | 'onLost' | 'onReturn'>,
): Promise<WorkerProcess<Commands>> {
  return WorkerProcess.start<Commands>({
    name: 'index',
    module: new URL('./hnsw-worker.js', import.meta.url),
    code: 'index_unavailable',
    subject: 'The vector index',
    environment: { GLIBC_TUNABLES: process.env.GLIBC_TUNABLES ?? LARGE_PAGES },
    // A search takes less than a millisecond; behind batches of the model it would wait for longer.
    lowPriority: false,
    ...told,
  })
}
