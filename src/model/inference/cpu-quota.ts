/** The cores of the service: of the machine, its affinity, and the quota of its control group. */
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'

const MOUNT = '/sys/fs/cgroup'

/** Whole cores, at least 1. Node considers the affinity but not the quota of a container. */
export function availableCores(read: (path: string) => string = readText): number {
  const cores = Math.min(availableParallelism(), quotaV2(read), quotaV1(read))
  return Math.max(1, Math.floor(cores))
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

/** The folder of the process in the hierarchy with these controllers. */
function folderOf(read: (path: string) => string, has: (controllers: string) => boolean): string {
  const lines = read('/proc/self/cgroup')
    .split('\n')
    .map((line) => line.split(':'))
  const [, , ...folder] =
    lines.find(([, controllers]) => controllers !== undefined && has(controllers)) ?? []
  return folder.length === 0 ? '/' : folder.join(':')
}

/** The smallest quota from the folder to the root; folders that a container hides have none. */
function leastAlong(folder: string, quotaAt: (folder: string) => number): number {
  const here = quotaAt(folder)
  return folder === dirname(folder) ? here : Math.min(here, leastAlong(dirname(folder), quotaAt))
}

/** In cores; Infinity without a quota, which is `max`, -1 or no file. */
function share(quota = Number.NaN, period = Number.NaN): number {
  const cores = quota / period
  return cores > 0 ? cores : Infinity
}

/** Empty if there is no such file. */
function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
