import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Collection } from '../../src/collection/collection.js'
import { Retrieval } from '../../src/retrieval/retrieval.js'
import { withinMargin } from '../../src/retrieval/rerank-margin.js'
import { WordModels } from '../support/word-models.js'

const similaritiesOf = (candidates: readonly { similarity: number }[]): number[] =>
  candidates.map(({ similarity }) => similarity)
const of = (...similarities: number[]) => similarities.map((similarity) => ({ similarity }))

describe('withinMargin', () => {
  it('returns the candidates at most the margin below the k-th', () => {
    const candidates = of(0.9, 0.75, 0.5, 0.375, 0.25, 0.125)
    expect(similaritiesOf(withinMargin(candidates, 2, 0.375))).toEqual([0.9, 0.75, 0.5, 0.375])
    expect(similaritiesOf(withinMargin(candidates, 3, 0))).toEqual([0.9, 0.75, 0.5])
    expect(similaritiesOf(withinMargin(candidates, 1, 2))).toEqual(similaritiesOf(candidates))
  })

  it('returns all candidates without a margin, or if there are at most k', () => {
    const candidates = of(0.9, 0.1)
    expect(withinMargin(candidates, 1, undefined)).toEqual(candidates)
    expect(withinMargin(candidates, 2, 0)).toEqual(candidates)
    expect(withinMargin(candidates, 5, 0)).toEqual(candidates)
    expect(withinMargin([], 5, 0)).toEqual([])
  })

  it('keeps the first k after reranking if the fusion encoder moves each by at most half of the margin', () => {
    const moved = fc.record({
      similarity: fc.double({ min: -1, max: 1, noNaN: true }),
      move: fc.double({ min: -0.1, max: 0.1, noNaN: true }),
    })
    fc.assert(
      fc.property(
        fc.array(moved, { maxLength: 40 }),
        fc.integer({ min: 1, max: 12 }),
        (moves, k) => {
          const candidates = moves.toSorted((a, b) => b.similarity - a.similarity)
          const first = (from: readonly (typeof moves)[number][]) =>
            from.toSorted((a, b) => b.similarity + b.move - a.similarity - a.move).slice(0, k)
          expect(first(withinMargin(candidates, k, 0.2 + 1e-9))).toEqual(first(candidates))
        },
      ),
    )
  })
})

describe('the margin of a bundle', () => {
  /** Ten items in the order of similarity; later items have better logits. */
  function searched(margin: number | undefined, gone: readonly string[] = []) {
    const models = new WordModels()
    const { rerank } = models.info
    const compared: number[] = []
    const fetched: number[] = []
    Object.assign(models, { info: { ...models.info, rerank: { ...rerank, margin } } })
    const match = models.match.bind(models)
    models.match = (texts, imageTokens, pairs) => {
      compared.push(pairs.length)
      return match(texts, imageTokens, pairs)
    }
    const items = {
      recall: () =>
        Promise.resolve(
          Array.from({ length: 10 }, (_, at) => ({ id: String(at), similarity: 0.9 - at / 10 })),
        ),
      getMany: (ids: readonly string[]) => {
        fetched.push(ids.length)
        return Promise.resolve(
          ids.map((id) =>
            gone.includes(id)
              ? undefined
              : { id, payload: null, imageTokens: new Int8Array([Number(id), 0, 0, 0]) },
          ),
        )
      },
      size: 10,
    }
    const lease = { models, items, isOutdated: false, [Symbol.dispose]: () => undefined }
    return {
      compared,
      fetched,
      retrieval: new Retrieval({ acquire: () => lease } as unknown as Collection),
    }
  }

  it('limits what a search fetches and reranks', async () => {
    const { compared, fetched, retrieval } = searched(0.35)
    const { hits } = await retrieval.search({ text: 'dog' }, { k: 2, candidates: 10 })
    expect([fetched, compared]).toEqual([[5], [5]])
    expect(hits.map(({ id }) => id)).toEqual(['4', '3'])
  })

  it('admits further candidates if one within it is gone', async () => {
    const { compared, fetched, retrieval } = searched(0.35, ['1'])
    const { hits } = await retrieval.search({ text: 'dog' }, { k: 2, candidates: 10 })
    // The second candidate is now item 2, at .7; item 5, at .4, is within the margin.
    expect([fetched, compared]).toEqual([[5, 10], [5]])
    expect(hits.map(({ id }) => id)).toEqual(['5', '4'])
  })

  it('limits nothing if the bundle has none', async () => {
    const { compared, retrieval } = searched(undefined)
    const { hits } = await retrieval.search({ text: 'dog' }, { k: 2, candidates: 10 })
    expect(compared).toEqual([10])
    expect(hits.map(({ id }) => id)).toEqual(['9', '8'])
  })
})
