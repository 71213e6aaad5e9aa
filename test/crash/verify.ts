/** Checks a restarted service: complete items, no lost write, and results of exact search. */
import { cosine } from '../support/random-embeddings.js'
import { bundlesValue, BUNDLES } from './bundle-changes.js'
import type { ItemState, State } from './child.js'
import type { History } from './history.js'
import type { ServiceProcess } from './service-process.js'
import {
  digestOf,
  fakeEncodedImage,
  fakePayload,
  otherBundle,
  type BundleName,
} from './fake-models.js'

const SEARCHES = 3
const K = 10
const SIMILARITY_TOLERANCE = 1e-5

/** @returns one sentence for each contradiction to the history */
export async function contradictionsOf(
  service: ServiceProcess,
  state: State,
  history: History,
  seed: number,
): Promise<string[]> {
  const versions = new Map(state.items.map(({ id, version }) => [id, version]))
  const searchSentences: string[] = []
  for (let at = 0; at < SEARCHES; at += 1) {
    searchSentences.push(
      ...(await searchContradictions(service, versions, `query ${seed} ${at}`, state.serving)),
    )
  }
  const historySentences = history.settle(
    new Map([...versions, [BUNDLES, bundlesValue(state.serving, state.next !== null)]]),
  )
  return [
    ...historySentences,
    ...stateContradictions(state),
    ...nextContradictions(state),
    ...searchSentences,
  ]
}

function incomplete(items: readonly ItemState[], bundle: BundleName): string[] {
  return items
    .filter(
      ({ id, version, digest }) =>
        digest !== digestOf(fakePayload(id, version), fakeEncodedImage(id, version, bundle)),
    )
    .map(
      ({ id, version }) =>
        `${id} is not complete: it differs from version ${version} encoded by ${bundle}`,
    )
}

function stateContradictions({ serving, items, replay, size, indexed }: State): string[] {
  const ids = new Set(items.map(({ id }) => id))
  const areAllIds = (other: readonly string[]): boolean =>
    other.length === ids.size && other.every((id) => ids.has(id))
  return [
    ...incomplete(items, serving),
    ...(size === ids.size ? [] : [`the store reports ${size} items, but lists ${ids.size}`]),
    ...(areAllIds(replay)
      ? []
      : [`the store replays ${replay.length} items, but lists ${ids.size}`]),
    ...(areAllIds(indexed)
      ? []
      : [`the index holds ${indexed.length} ids, but not the ${ids.size} of the store`]),
  ]
}

/** The next bundle has encoded each item, or counts it in its lag. */
function nextContradictions({ serving, items, next }: State): string[] {
  if (next === null) return []
  const { items: encoded, lag } = next
  const isCounted = encoded.length + lag === items.length
  return [
    ...incomplete(encoded, otherBundle(serving)),
    ...(isCounted
      ? []
      : [
          `the next bundle has ${encoded.length} of ${items.length} items and reports a lag of ${lag}`,
        ]),
  ]
}

async function searchContradictions(
  service: ServiceProcess,
  versions: ReadonlyMap<string, number>,
  query: string,
  bundle: BundleName,
): Promise<string[]> {
  const embeddingOf = (id: string, version: number): Float32Array =>
    fakeEncodedImage(id, version, bundle).embedding
  const embedding = embeddingOf(query, 0)
  const exact = new Map(
    [...versions].map(([id, version]) => [id, cosine(embedding, embeddingOf(id, version))]),
  )
  const best = [...exact.values()].sort((a, b) => b - a).slice(0, K)
  const hits = await service.request('search', { id: query, k: K })
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
        `the search for "${query}" returns ${JSON.stringify(hits)}; exact search returns ${JSON.stringify(best)}`,
      ]
}
