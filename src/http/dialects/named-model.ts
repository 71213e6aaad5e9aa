/**
 * The model that a client names, and the length of its embeddings. The bundle that serves is the
 * only choice: embeddings of two models cannot be compared.
 */
import { clip, TandemError } from '../../errors.js'
import type { Retrieval } from '../../retrieval/retrieval.js'

const MAX_SHOWN = 100
/** Sent by infinity's client where no model is named. */
const UNNAMED = 'default/not-specified'

/**
 * @param named - undefined takes the bundle that serves
 * @throws TandemError model_not_found
 */
export function checkModel(named: string | undefined, { model }: Retrieval): void {
  if (named === undefined || named === UNNAMED || named === model.name) return
  throw new TandemError('model_not_found', { named: clip(named, MAX_SHOWN), serving: model.name })
}

/** @throws TandemError invalid_request: the embeddings of a bundle have one length */
export function checkDimensions(
  dimensions: number | undefined,
  name: string,
  { model: { dim } }: Retrieval,
): void {
  if (dimensions === undefined || dimensions === dim) return
  throw new TandemError(
    'invalid_request',
    `${name} is ${dimensions}; expected ${dim}, the only length of this bundle's embeddings.`,
  )
}
