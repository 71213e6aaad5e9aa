/** Memory of a process and its descendants, from /proc. */
import { readFileSync } from 'node:fs'
import { familyOf, moduleOf, orEmpty } from './process-family.js'

export interface Memory {
  /** Bytes, including mapped files. */
  resident: number
  /** Bytes, without mapped files. */
  anonymous: number
}

/** Sum over a process and its descendants. */
export function memoryOf(pid: number): Memory {
  const members = [...memoryByProcess(pid).values()]
  const sum = (of: keyof Memory): number => members.reduce((total, member) => total + member[of], 0)
  return { resident: sum('resident'), anonymous: sum('anonymous') }
}

/** By module, such as `server` or `inference-worker`. */
export function memoryByProcess(pid: number): Map<string, Memory> {
  const byModule = new Map<string, Memory>()
  for (const member of familyOf(pid)) {
    const name = moduleOf(member)
    const { resident, anonymous } = byModule.get(name) ?? { resident: 0, anonymous: 0 }
    const bytes = (field: string): number => kibibytesIn(member, field) * 1024
    byModule.set(name, {
      resident: resident + bytes('VmRSS'),
      anonymous: anonymous + bytes('RssAnon'),
    })
  }
  return byModule
}

function kibibytesIn(pid: number, name: string): number {
  const [status = ''] = orEmpty(() => [readFileSync(`/proc/${pid}/status`, 'utf8')])
  return Number(new RegExp(`^${name}:\\s*(\\d+) kB`, 'm').exec(status)?.[1] ?? 0)
}
