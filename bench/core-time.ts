/**
 * Cost of work in core-seconds, by process. Other work on the machine affects it far less than the
 * elapsed time.
 */
import { readFileSync } from 'node:fs'
import { familyOf, moduleOf, orEmpty } from '../test/support/process-family.js'

/** By the module that a process runs: `server`, `inference-worker`. */
export type CoreSeconds = Record<string, number>

/** Linux counts the time of processes in hundredths of a second. */
const TICKS_A_SECOND = 100

/** Cost of one of `times` runs of `work` in the process `pid` and its children. */
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

/** Adds processes that run the same module. */
function spent(pid: number): CoreSeconds {
  const byModule: CoreSeconds = {}
  for (const member of familyOf(pid))
    byModule[moduleOf(member)] =
      (byModule[moduleOf(member)] ?? 0) + ticksOf(member) / TICKS_A_SECOND
  return byModule
}

function ticksOf(pid: number): number {
  const [stat = ''] = orEmpty(() => [readFileSync(`/proc/${pid}/stat`, 'utf8')])
  // The fields after the name (in brackets, may contain spaces): user and system time.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return Number(fields[11] ?? 0) + Number(fields[12] ?? 0)
}

function round(seconds: number): number {
  return Number(seconds.toPrecision(3))
}
