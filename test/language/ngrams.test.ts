import { readFile } from 'node:fs/promises'
import { eld } from 'eld/small'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Ngrams } from '../../src/language/ngrams.js'
import { ngramTable, ngramTablePath } from '../support/ngram-table.js'

const ngrams = Ngrams.small

/** As the package gives them: without languages of which there is no evidence. */
function scoresOf(text: string): Record<string, number> {
  const scores = [...ngrams.scoresOf(text)].map((score, at) => [ngrams.languages[at], score])
  return Object.fromEntries(scores.filter(([, score]) => score !== 0)) as Record<string, number>
}

describe('language identification', () => {
  it.each([
    'two girls play on a skateboard in a courtyard .',
    "the dogs' bowl isn't full, 'tis said — `quoted’ words' '",
    'zwei Mädchen spielen auf einem Skateboard im Hof, STRASSE, Straße, İstanbul',
    'quả bóng tennis ở trên lưới của cái vợt',
    '在玩滑板的两个女孩。在公园里，有一只狗。',
    'スケートボードで遊ぶ二人の女の子',
    'दो लड़कियां स्केटबोर्ड पर खेल रही हैं',
    'две девочки играют на скейтборде',
    'xqzv wrtp lkjh mnbv',
    'a b',
    'x',
    '',
    '12 34 ?!',
    `${'a'.repeat(69)} ${'b'.repeat(70)} ${'c'.repeat(71)} dog`,
    'une femme au chapeau '.repeat(30),
    '在玩滑板的两个女孩'.repeat(60),
    `${'ab '.repeat(116)}${'é'.repeat(40)} more`,
  ])('scores %j as the package does', (text) => {
    expect(scoresOf(text)).toEqual(eld.detect(text).getScores())
  })

  it('scores any text of letters, apostrophes and spaces as the package does', () => {
    const letters = [..."abcdefghijklmnopqrstuvwxyzéßøñışжиאبक的の한'’`-.1  "]
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(...letters), maxLength: 400 }),
        (text) => void expect(scoresOf(text)).toEqual(eld.detect(text).getScores()),
      ),
      { numRuns: 300 },
    )
  })

  it('has the n-grams of the package that is installed', async () => {
    expect((await ngramTable()).equals(await readFile(ngramTablePath))).toBe(true)
  })
})
