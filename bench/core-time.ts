/**
 * What work costs in core-seconds, by process: the time that cores spent, which other work on the
 * machine stretches far less than the time on a clock.
 */
import { readFileSync } from 'node:fs'
import { familyOf, moduleOf, orEmpty } from '../test/support/process-family.js'

/** By the module that a process runs: `server`, `inference-worker`. */
export type CoreSeconds = Record<string, number>

/** Linux counts the time of processes in hundredths of a second. */
const TICKS_A_SECOND = 100

/** Of the process `pid` and those that it has started, for each of `times` runs of `work`. */
export async function coreSecondsOf(
  pid: number,
  times: number,
  work: () => Promise<unknown>,
): Promise<CoreSeconds> {
  const before = spent(pid)
  await work()
  const after = Object.entries(spent(pid))
  return Object.fromEntries(
    after.map(([module, seconds]) => [module, round((seconds - (before[module] ?? 0)) / times)]),
  )
}

export function total(cost: CoreSeconds): number {
  return Object.values(cost).reduce((sum, seconds) => sum + seconds, 0)
}

/** Several processes may run one module. */
function spent(pid: number): CoreSeconds {
  const byModule: CoreSeconds = {}
  for (const member of familyOf(pid))
    byModule[moduleOf(member)] =
      (byModule[moduleOf(member)] ?? 0) + ticksOf(member) / TICKS_A_SECOND
  return byModule
}

function ticksOf(pid: number): number {
  const [stat = ''] = orEmpty(() => [readFileSync(`/proc/${pid}/stat`, 'utf8')])
  // After the name, which may hold spaces, in brackets; time of the process itself and of the
  // kernel for it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return Number(fields[11] ?? 0) + Number(fields[12] ?? 0)
}

function round(seconds: number): number {
  return Number(seconds.toPrecision(3))
}
