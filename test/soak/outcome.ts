/** What became of a request of the soak. */
import type { Answer } from '../../bench/load.js'
import type { SoakRequest } from './requests.js'

/** Answered in time · too late · refused at once · failed in another way. */
export type Fate = 'answered' | 'late' | 'refused' | 'failed'

export interface Outcome {
  kind: SoakRequest['kind']
  fate: Fate
  status: number
  milliseconds: number
}

export function outcomeOf(
  { kind, deadlineS }: SoakRequest,
  { status, said, milliseconds }: Answer,
): Outcome {
  const code = /"code":"(\w+)"/.exec(said)?.[1] ?? ''
  return { kind, status, milliseconds, fate: fateOf(status, code, milliseconds / 1000, deadlineS) }
}

function fateOf(status: number, code: string, seconds: number, deadlineS: number): Fate {
  if (code === 'overloaded' || code === 'rate_limited') return 'refused'
  if (code === 'timed_out') return 'late'
  if (status < 200 || status > 299) return 'failed'
  return seconds <= deadlineS ? 'answered' : 'late'
}
