/** A process and all that it has started, as Linux knows them. */
import { readdirSync, readFileSync } from 'node:fs'
import { basename } from 'node:path'

/** The process, its children and theirs. */
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

/** What a process goes by: the module that it runs, such as `server` or `inference-worker`. */
export function moduleOf(pid: number): string {
  const words = orEmpty(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0'))
  return basename(words.find((word) => /\.[jt]s$/.test(word)) ?? String(pid)).slice(
    0,
    -'.js'.length,
  )
}

/** Nothing, where the process has ended meanwhile. */
export function orEmpty<Value>(read: () => Value[]): Value[] {
  try {
    return read()
  } catch {
    return []
  }
}
