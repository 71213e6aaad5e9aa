/** A process and its descendants, from /proc. */
import { readdirSync, readFileSync } from 'node:fs'
import { basename, dirname } from 'node:path'

/** The process and all its descendants. */
export function familyOf(pid: number): number[] {
  const children = orEmpty(() => readdirSync(`/proc/${pid}/task`)).flatMap((task) =>
    orEmpty(() =>
      readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8')
        .split(' ')
        .filter(Boolean)
        .map(Number),
    ),
  )
  return [pid, ...children.flatMap(familyOf)]
}

/** The module that a process runs: `server`, or `inference-worker` for `inference/worker.js`. */
export function moduleOf(pid: number): string {
  const words = orEmpty(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0'))
  const file = words.find((word) => /\.[jt]s$/.test(word)) ?? `${pid}.js`
  const name = basename(file).slice(0, -'.js'.length)
  return name === 'worker' ? `${basename(dirname(file))}-worker` : name
}

/** Empty if the process has ended. */
export function orEmpty<Value>(read: () => Value[]): Value[] {
  try {
    return read()
  } catch {
    return []
  }
}
