/** `tandem search`: asks a sentence and prints the hits. */
import type { Hit, SearchAnswer } from './client.js'

function percent(part: number): string {
  return `${(100 * part).toFixed(1)} %`
}

/** One line a hit: rank, match where it was computed, similarity, id. */
function hitLine({ id, match, similarity }: Hit, at: number): string {
  const matched = match === null ? '' : `match ${percent(match).padStart(7)}  `
  return `${String(at + 1).padStart(3)}  ${matched}similarity ${similarity.toFixed(3).padStart(6)}  ${id}`
}

/** The hits as lines for people. */
export function hitLines({ hits, timings }: SearchAnswer): string {
  if (hits.length === 0) return 'Nothing found.'
  const total = timings['total'] === undefined ? '' : ` in ${timings['total'].toFixed(0)} ms`
  return [
    ...hits.map(hitLine),
    `${hits.length} ${hits.length === 1 ? 'hit' : 'hits'}${total}`,
  ].join('\n')
}
