import { describe, expect, it } from 'vitest'
import { SearchGroups, type Search } from '../../src/vector-index/search-groups.js'

/** Answers with the first value of the embedding as label; a negative value fails its group. */
function openGroups() {
  const groups: number[] = []
  const searches = new SearchGroups((group: readonly Search[]) => {
    groups.push(group.length)
    const labels = group.map(({ embedding }) => embedding[0] as number)
    if (labels.some((label) => label < 0)) return Promise.reject(new Error('the process died'))
    return Promise.resolve(
      group.map(({ candidates }, at) => ({
        labels: [labels[at] as number],
        similarities: [candidates],
      })),
    )
  })
  const search = (label: number, candidates = 1) =>
    searches.search(Float32Array.of(label), candidates)
  return { groups, search }
}

describe('searches', () => {
  it('of one event loop turn are sent in groups of four, each with its own answer', async () => {
    const { groups, search } = openGroups()
    const found = await Promise.all(Array.from({ length: 10 }, (_, at) => search(at, at + 1)))
    expect(groups).toEqual([4, 4, 2])
    expect(found).toEqual(
      Array.from({ length: 10 }, (_, at) => ({ labels: [at], similarities: [at + 1] })),
    )
  })

  it('of different turns are sent separately', async () => {
    const { groups, search } = openGroups()
    await search(1)
    await search(2)
    expect(groups).toEqual([1, 1])
  })

  it('fail only with their own group', async () => {
    const { search } = openGroups()
    const outcomes = await Promise.allSettled([1, 2, -3, 4, 5].map((label) => search(label)))
    expect(outcomes.map(({ status }) => status)).toEqual([
      'rejected',
      'rejected',
      'rejected',
      'rejected',
      'fulfilled',
    ])
  })
})
