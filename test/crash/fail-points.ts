/** Named points at which a process kills itself. A variable of the environment arms one of them. */

export const failPoints = [
  'store: half of an item is put',
  'store: half of an item is removed',
  'store: before the commit',
  'store: after the commit',
  'index: before a change',
  'index: after a change',
  'snapshot: the graph is being written',
  'snapshot: the graph is written',
  'snapshot: the sidecar is empty',
  'snapshot: the sidecar is written aside',
  'snapshot: the sidecar is renamed',
  'snapshot: the old graph is removed',
  'compaction: begun',
  'compaction: copying',
  'compaction: before its end',
  'compaction: after its end',
  're-embedding starts: before the commit',
  're-embedding starts: after the commit',
  'backfill: half of a group is stored',
  'backfill: before the commit',
  'backfill: after the commit',
  're-embedding ends: before the commit',
  're-embedding ends: after the commit',
  'promotion: before the commit',
  'promotion: after the commit',
  'migration: half of an item is moved',
  'migration: before the commit',
  'migration: after the commit',
] as const

export type FailPoint = (typeof failPoints)[number]

/** The process is killed when it reaches the point for the `arrival`th time, counted from 1. */
export interface Armed {
  point: FailPoint
  arrival: number
}

/** The variable that holds `Armed` as JSON. */
export const ARMED_VARIABLE = 'CRASH_TEST_ARMED'

const armed = JSON.parse(process.env[ARMED_VARIABLE] ?? 'null') as Armed | null
let arrivals = 0

/**
 * Kills the process if `point` is the armed one: no handler runs and no buffer is flushed.
 *
 * @param beforeKill - called just before
 */
export function reach(point: FailPoint, beforeKill: () => unknown = () => undefined): void {
  if (armed?.point !== point || (arrivals += 1) < armed.arrival) return
  beforeKill()
  process.kill(process.pid, 'SIGKILL')
}
