/** Gain of reranking at several depths, with all candidates and with those within the margin. */
import { rankOf, recallFigures, type RecallFigures } from '../../src/cli/recall.js'
import type { Models } from '../../src/model/models.js'
import { withinMargin } from '../../src/retrieval/rerank-margin.js'
import { matched, recalled, type Candidate, type EncodedPhotos } from './encoded-photos.js'

/** Number of hits of a search. */
const HITS = 10

export interface RecallAtDepth {
  candidates: number
  all: RecallFigures
  contenders: RecallFigures
  /** Mean number of them. */
  reranked: number
  /** Per cent of the captions with the same hits in the same order. */
  unchanged: number
}

export interface RecallReport {
  photos: number
  captions: number
  similarity: RecallFigures
  depths: RecallAtDepth[]
}

/** Every caption asks for ten hits among all photos. */
export async function recallReport(
  models: Models,
  photos: EncodedPhotos,
  captions: number,
  depths: readonly number[],
): Promise<RecallReport> {
  const { margin } = models.info.rerank
  const similarity: number[] = []
  const seen = depths.map((candidates) => ({
    candidates,
    all: [] as number[],
    contenders: [] as number[],
    reranked: 0,
    unchanged: 0,
  }))
  for (const [own, text] of photos.texts.slice(0, captions).entries()) {
    const candidates = recalled(photos, text).slice(0, Math.max(...depths))
    const scores = await matched(models, photos, text, candidates)
    const found = candidates.map((candidate, at) => ({ ...candidate, score: scores[at] as number }))
    const hitsOf = (some: typeof found) => some.toSorted((a, b) => b.score - a.score).slice(0, HITS)
    const rank = (hits: readonly Candidate[]): number => rankOf(hits, ({ image }) => image === own)
    similarity.push(rank(candidates))
    for (const depth of seen) {
      const whole = found.slice(0, depth.candidates)
      const close = [...withinMargin(whole, HITS, margin)]
      const [all, contenders] = [hitsOf(whole), hitsOf(close)]
      depth.all.push(rank(all))
      depth.contenders.push(rank(contenders))
      depth.reranked += close.length / captions
      depth.unchanged += all.every(({ image }, at) => contenders[at]?.image === image)
        ? 100 / captions
        : 0
    }
  }
  return {
    photos: photos.images.length,
    captions,
    similarity: recallFigures(similarity),
    depths: seen.map((depth) => ({
      ...depth,
      all: recallFigures(depth.all),
      contenders: recallFigures(depth.contenders),
    })),
  }
}
