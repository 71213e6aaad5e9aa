/**
 * Fetches what is stored of recalled items: what is shown of them, and the tokens where they are
 * reranked.
 */
import type { Items, Neighbour, Payload } from '../collection/collection.js'
import type { Call } from '../model/models.js'

/** An item that was recalled, and is there. */
export interface Candidate extends Neighbour {
  payload: Payload | null
  /** Empty where they were not asked for. */
  imageTokens: Int8Array
}

export interface Fetching {
  /** Whether tokens are needed: they are most of what is stored of an item. */
  tokens: boolean
  /** What is passed over otherwise. */
  passes: (payload: Payload | null) => boolean
  call: Call | undefined
}

const NO_TOKENS = new Int8Array()

/**
 * In the order given. An item removed since it was recalled is no candidate, nor one replaced since
 * by what does not pass.
 */
export async function fetchCandidates(
  items: Items,
  recalled: readonly Neighbour[],
  { tokens, passes, call }: Fetching,
): Promise<Candidate[]> {
  const ids = recalled.map(({ id }) => id)
  const found = tokens
    ? await items.getMany(ids, call)
    : (await items.payloads(ids, call)).map(payloadAlone)
  return recalled.flatMap(({ id, similarity }, at) => {
    const item = found[at]
    if (item === undefined || !passes(item.payload)) return []
    return [{ id, similarity, payload: item.payload, imageTokens: item.imageTokens }]
  })
}

function payloadAlone(
  payload: Payload | null | undefined,
): Pick<Candidate, 'payload' | 'imageTokens'> | undefined {
  return payload === undefined ? undefined : { payload, imageTokens: NO_TOKENS }
}
