import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { Tokenizer } from '../../../src/model/encoders/tokenizer.js'

/** Written by make-learnt-tokenizer.py; test_second_text.py of training checks it too. */
const recorded = JSON.parse(
  readFileSync(new URL('../../fixtures/learnt-tokenizer.json', import.meta.url), 'utf8'),
) as {
  texts: Record<string, number[]>
  tokenizer: object
}

describe('a tokenizer learnt from captions in many scripts', () => {
  const tokenizer = new Tokenizer(Buffer.from(JSON.stringify(recorded.tokenizer)), 64)

  it.each(Object.entries(recorded.texts))(
    'gives %j the ids that training gives it',
    (text, ids) => {
      expect(tokenizer.encode(text)).toEqual(ids)
    },
  )

  it('keeps the closing token of a text that is cut', () => {
    const [long] = Object.values(recorded.texts).filter((ids) => ids.length > 6)
    const text = Object.keys(recorded.texts).find((key) => recorded.texts[key] === long) ?? ''
    expect(new Tokenizer(Buffer.from(JSON.stringify(recorded.tokenizer)), 6).encode(text)).toEqual([
      ...(long ?? []).slice(0, 5),
      3,
    ])
  })
})
