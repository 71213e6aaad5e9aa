/**
 * What a restart has to find: nothing lost, nothing half, and searches as an exact search answers
 * them.
 */
import { cosine } from '../support/random-embeddings.js'
import { bundlesAs, THE_BUNDLES } from './bundle-changes.js'
import type { FoundItem, State } from './child.js'
import type { History } from './history.js'
import type { Life } from './service-process.js'
import { digestOf, madeParts, madePayload, otherBundle, type BundleName } from './made-models.js'

const SEARCHES = 3
const K = 10
const SIMILARITY_TOLERANCE = 1e-5

/** One sentence for each thing that is wrong after a start. */
export async function contradictionsOf(
  life: Life,
  state: State,
  history: History,
  seed: number,
): Promise<string[]> {
  const found = new Map(state.items.map(({ id, version }) => [id, version]))
  const searched: string[] = []
  for (let at = 0; at < SEARCHES; at += 1) {
    searched.push(
      ...(await searchContradictions(life, found, `query ${seed} ${at}`, state.serving)),
    )
  }
  const settled = history.settle(
    new Map([...found, [THE_BUNDLES, bundlesAs(state.serving, state.next !== null)]]),
  )
  return [...settled, ...stateContradictions(state), ...nextContradictions(state), ...searched]
}

function torn(items: readonly FoundItem[], bundle: BundleName): string[] {
  return items
    .filter(
      ({ id, version, digest }) =>
        digest !== digestOf(madePayload(id, version), madeParts(id, version, bundle)),
    )
    .map(
      ({ id, version }) =>
        `${id} is not whole: parts of it differ from version ${version} as ${bundle} makes it`,
    )
}

function stateContradictions({ serving, items, replay, size, indexed }: State): string[] {
  const ids = new Set(items.map(({ id }) => id))
  const isAllIds = (others: readonly string[]): boolean =>
    others.length === ids.size && others.every((id) => ids.has(id))
  return [
    ...torn(items, serving),
    ...(size === ids.size ? [] : [`the store says it holds ${size} items, and lists ${ids.size}`]),
    ...(isAllIds(replay)
      ? []
      : [`the store replays ${replay.length} items, and lists ${ids.size}`]),
    ...(isAllIds(indexed)
      ? []
      : [`the index holds ${indexed.length} ids, and the store ${ids.size}, or others`]),
  ]
}

/**
 * Each item was encoded by the next bundle in its present state, or is counted in its lag.
 */
function nextContradictions({ serving, items, next }: State): string[] {
  if (next === null) return []
  const { items: encoded, lag } = next
  const isCounted = encoded.length + lag === items.length
  return [
    ...torn(encoded, otherBundle(serving)),
    ...(isCounted
      ? []
      : [
          `the next bundle has ${encoded.length} of ${items.length} items and reports a lag of ${lag}`,
        ]),
  ]
}

async function searchContradictions(
  life: Life,
  found: ReadonlyMap<string, number>,
  query: string,
  bundle: BundleName,
): Promise<string[]> {
  const embeddingOf = (id: string, version: number): Float32Array =>
    madeParts(id, version, bundle).embedding
  const embedding = embeddingOf(query, 0)
  const exact = new Map(
    [...found].map(([id, version]) => [id, cosine(embedding, embeddingOf(id, version))]),
  )
  const best = [...exact.values()].sort((a, b) => b - a).slice(0, K)
  const hits = await life.ask('search', { id: query, k: K })
  const isNear = (a: number | undefined, b: number | undefined): boolean =>
    Math.abs((a ?? 9) - (b ?? -9)) < SIMILARITY_TOLERANCE
  const equal =
    hits.length === best.length &&
    new Set(hits.map(({ id }) => id)).size === hits.length &&
    hits.every(
      ({ id, similarity }, rank) =>
        isNear(similarity, best[rank]) && isNear(similarity, exact.get(id)),
    )
  return equal
    ? []
    : [
        `a search for "${query}" answers ${JSON.stringify(hits)}; exact search begins ${JSON.stringify(best)}`,
      ]
}
