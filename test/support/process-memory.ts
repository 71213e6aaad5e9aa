/** The memory of a process and of all that it has started, as Linux counts it. */
import { readdirSync, readFileSync } from 'node:fs'

export interface Memory {
  /** Bytes with the files that are mapped, and without. */
  resident: number
  anonymous: number
}

export function memoryOf(pid: number): Memory {
  const family = familyOf(pid)
  const sum = (name: string): number => family.reduce((total, member) => total + kibibytesIn(member, name) * 1024, 0)
  return { resident: sum('VmRSS'), anonymous: sum('RssAnon') }
}

/** The process, its children and theirs. */
function familyOf(pid: number): number[] {
  const children = orEmpty(() => readdirSync(`/proc/${pid}/task`)).flatMap((task) =>
    orEmpty(() => readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number)),
  )
  return [pid, ...children.flatMap(familyOf)]
}

function kibibytesIn(pid: number, name: string): number {
  const [status = ''] = orEmpty(() => [readFileSync(`/proc/${pid}/status`, 'utf8')])
  return Number(new RegExp(`^${name}:\\s*(\\d+) kB`, 'm').exec(status)?.[1] ?? 0)
}

/** Nothing, where the process has ended meanwhile. */
function orEmpty<Value>(read: () => Value[]): Value[] {
  try {
    return read()
  } catch {
    return []
  }
}
