/**
 * How many cores the service has been given: by the machine, by its affinity, and by the quota of
 * its control group.
 */
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'

const MOUNT = '/sys/fs/cgroup'

/**
 * Whole cores, 1 at least. Node looks at the machine and the affinity alone; a container is given
 * less by a quota.
 */
export function availableCores(read: (path: string) => string = readText): number {
  const given = Math.min(availableParallelism(), quotaV2(read), quotaV1(read))
  return Math.max(1, Math.floor(given))
}

function quotaV2(read: (path: string) => string): number {
  return leastAlong(
    folderOf(read, (controllers) => controllers === ''),
    (folder) => {
      const [quota, period] = read(join(MOUNT, folder, 'cpu.max'))
        .split(' ')
        .map(Number)
      return share(quota, period)
    },
  )
}

function quotaV1(read: (path: string) => string): number {
  return leastAlong(
    folderOf(read, (controllers) => controllers.split(',').includes('cpu')),
    (folder) => {
      const of = (file: string): number => Number(read(join(MOUNT, 'cpu', folder, file)))
      return share(of('cpu.cfs_quota_us'), of('cpu.cfs_period_us'))
    },
  )
}

/** Where the process is in the hierarchy that has those controllers. */
function folderOf(read: (path: string) => string, has: (controllers: string) => boolean): string {
  const lines = read('/proc/self/cgroup')
    .split('\n')
    .map((line) => line.split(':'))
  const [, , ...folder] =
    lines.find(([, controllers]) => controllers !== undefined && has(controllers)) ?? []
  return folder.length === 0 ? '/' : folder.join(':')
}

/**
 * Each group on the way to the root may have a quota. What a container does not see of the way is
 * left out.
 */
function leastAlong(folder: string, quotaAt: (folder: string) => number): number {
  const here = quotaAt(folder)
  return folder === dirname(folder) ? here : Math.min(here, leastAlong(dirname(folder), quotaAt))
}

/** In cores; Infinity where there is no quota, which is `max`, -1 or no file. */
function share(quota = Number.NaN, period = Number.NaN): number {
  const cores = quota / period
  return cores > 0 ? cores : Infinity
}

/** Empty where there is no such file. */
function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
