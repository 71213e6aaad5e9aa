import { describe, expect, it } from 'vitest'
import { findingOf, noticeOfQuery, noticesOfDocuments } from '../../src/retrieval/notices.js'
import { WordModels } from '../support/word-models.js'

const { info } = new WordModels()
const NO_TEXT = { embedding: new Float32Array(1), textTokens: new Float32Array(1), encoder: 0 }
const french = 'deux filles jouent dans la cour'
const finding = (
  text: string,
  { tokenCount = 8, language = undefined as string | undefined } = {},
) =>
  findingOf(
    info,
    { text },
    {
      kind: 'text',
      text: { ...NO_TEXT, tokenCount },
      embedding: new Float32Array(1),
    },
    language,
  )

describe('what keeps a bundle from understanding a text', () => {
  it('is its language, as identified or as the client names it', () => {
    expect(finding(french)).toEqual({ code: 'language_not_spoken', language: 'fr' })
    expect(finding('a dog', { language: 'fr' })).toEqual({
      code: 'language_not_spoken',
      language: 'fr',
    })
    expect(finding(french, { language: 'en' })).toBeNull()
    expect(finding(french, { language: 'en-GB' })).toBeNull()
    expect(finding('a dog on the beach')).toBeNull()
  })

  it('is the language of a function word, if another word has several tokens', () => {
    expect(finding('ein hund', { tokenCount: 5 })).toEqual({
      code: 'language_not_spoken',
      language: 'de',
    })
    expect(finding('buenos aires', { tokenCount: 4 })).toBeNull()
    expect(finding('buenos aires, 1999!', { tokenCount: 7 })).toBeNull()
    expect(finding('ein hund', { tokenCount: 5, language: 'en' })).toBeNull()
  })

  it('is nonsense: no n-gram of a language, and many tokens for each word', () => {
    expect(finding('zxqv blorp 12345', { tokenCount: 11 })).toEqual({
      code: 'text_not_understood',
      language: null,
    })
    // No known n-gram either, but words of the tokenizer.
    expect(finding('pink outfit', { tokenCount: 4 })).toBeNull()
    expect(finding('shih tzu', { tokenCount: 6 })).toBeNull()
    // The encoder gave no tokens.
    expect(finding('zxqv blorp', { tokenCount: 0 })).toBeNull()
  })

  it('is never judged for a bundle without languages', () => {
    const silent = { ...info, languages: [] }
    const image = {
      kind: 'image',
      imageTokens: new Int8Array(1),
      embedding: new Float32Array(1),
    } as const
    const text = { ...NO_TEXT, tokenCount: 8 }
    const encoded = { kind: 'text', text, embedding: image.embedding } as const
    expect(findingOf(silent, { text: french }, encoded, undefined)).toBeNull()
    expect(findingOf(silent, { text: french }, encoded, 'fr')).toBeNull()
    expect(findingOf(info, { id: french }, image, undefined)).toBeNull()
  })
})

describe('a notice', () => {
  it('names the language, those of the bundle, and the documents', () => {
    expect(noticeOfQuery(info, { code: 'language_not_spoken', language: 'fr' })).toEqual({
      code: 'language_not_spoken',
      language: 'fr',
      detail:
        'The query seems to be in French (fr); the bundle words understands English (en). There is no match.',
    })
    const zh = { code: 'language_not_spoken', language: 'zh' } as const
    const unknown = { code: 'language_not_spoken', language: null } as const
    const nonsense = { code: 'text_not_understood', language: null } as const
    expect(noticesOfDocuments(info, [null, zh, nonsense, zh, unknown])).toEqual([
      {
        ...zh,
        documents: [1, 3],
        detail:
          'documents[1] and 1 more seems to be in Chinese (zh); the bundle words understands English (en). There is no match.',
      },
      {
        ...nonsense,
        documents: [2],
        detail: 'documents[2] is not in a language that is known. There is no match.',
      },
      {
        ...unknown,
        documents: [4],
        detail:
          'documents[4] seems to be in another language; the bundle words understands English (en). There is no match.',
      },
    ])
  })
})
