import { describe, expect, it } from 'vitest'
import { SearchGroups, type Search } from '../../src/vector-index/search-groups.js'

/** Finds the label that the embedding names; fails a group that holds a negative one. */
function asked() {
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
  it('of one turn are asked together, a few at a time, and each is given its own answer', async () => {
    const { groups, search } = asked()
    const found = await Promise.all(Array.from({ length: 10 }, (_, at) => search(at, at + 1)))
    expect(groups).toEqual([4, 4, 2])
    expect(found).toEqual(
      Array.from({ length: 10 }, (_, at) => ({ labels: [at], similarities: [at + 1] })),
    )
  })

  it('wait for no other turn', async () => {
    const { groups, search } = asked()
    await search(1)
    await search(2)
    expect(groups).toEqual([1, 1])
  })

  it('fail with their group, and no other', async () => {
    const { search } = asked()
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
