import { expect, it } from 'vitest'
import { splitComparison } from '../../../src/model/encoders/comparison.js'

it('splits a comparison by bytes and by pairs, in the order of its pairs', () => {
  const text = {
    embedding: new Float32Array(),
    textTokens: new Float32Array(2),
    tokenCount: 2,
    encoder: 0,
  }
  const whole = {
    texts: [text, text],
    imageTokens: Array.from({ length: 9 }, () => new Int8Array(10)),
    pairs: Array.from({ length: 30 }, (_, at) => ({
      text: at % 2,
      image: at % 9,
      similarity: at,
    })),
  }
  const parts = splitComparison(whole, { bytes: 50 })
  expect(parts.length).toBeGreaterThan(3)
  expect(parts.flatMap(({ pairs }) => pairs.map(({ similarity }) => similarity))).toEqual(
    whole.pairs.map((_, at) => at),
  )
  for (const { texts, imageTokens, pairs } of parts) {
    expect(texts.length * 8 + imageTokens.length * 10).toBeLessThanOrEqual(50)
    for (const { text: row, image } of pairs)
      expect([texts[row], imageTokens[image]]).not.toContain(undefined)
  }
  expect(splitComparison(whole, { pairs: 7 }).map((part) => part.pairs.length)).toEqual([
    7, 7, 7, 7, 2,
  ])
  expect(splitComparison(whole, {})).toHaveLength(1)
  expect(() => splitComparison({ ...whole, imageTokens: [] }, {})).toThrow(RangeError)
})
