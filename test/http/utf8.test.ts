import { describe, expect, it } from 'vitest'
import { headerText, losslessText, utf8Text } from '../../src/http/utf8.js'

/** Bytes that are not UTF-8, and the first of them that belongs to no character. */
const FAULTS: { of: string; bytes: number[]; byte: string; position: number }[] = [
  { of: 'Latin-1', bytes: [0x63, 0xe9, 0x21], byte: '0xE9', position: 1 },
  // The replacement of such a byte is EF BF BD, so it starts with the byte itself.
  { of: 'a last EF', bytes: [0x44, 0x22, 0xef], byte: '0xEF', position: 2 },
  { of: 'an incomplete U+FFFD', bytes: [0x44, 0xef, 0xbf], byte: '0xEF', position: 1 },
  { of: 'an EF before a letter', bytes: [0xef, 0x44], byte: '0xEF', position: 0 },
  {
    of: 'a U+FFFD of the client',
    bytes: [0xef, 0xbf, 0xbd, 0x41, 0xff],
    byte: '0xFF',
    position: 4,
  },
  { of: 'half a surrogate pair', bytes: [0xc3, 0xa9, 0xed, 0xa0, 0x80], byte: '0xED', position: 2 },
]

describe('texts in UTF-8', () => {
  it.each(FAULTS)('names the byte and the position of $of', ({ bytes, byte, position }) => {
    expect(() => utf8Text(Buffer.from(bytes), 'The body')).toThrow(
      expect.objectContaining({
        code: 'text_unreadable',
        message: expect.stringContaining(
          `The body has the byte ${byte} at position ${position}`,
        ) as string,
      }),
    )
  })

  it('refuses or decodes all bytes alone, and all pairs', () => {
    for (let first = 0; first < 256; first += 1)
      for (let second = -1; second < 256; second += 1) {
        const bytes = Buffer.from(second === -1 ? [first] : [first, second])
        try {
          expect(Buffer.from(utf8Text(bytes, 'It'))).toEqual(bytes)
        } catch (error) {
          expect(error).toMatchObject({ code: 'text_unreadable' })
        }
      }
  })

  it('decodes a U+FFFD of the client', () => {
    expect(utf8Text(Buffer.from('a\ufffdé'), 'The body')).toBe('a\ufffdé')
  })

  it('refuses a header that is not UTF-8', () => {
    const value = Buffer.from([0x61, 0xef]).toString('latin1')
    expect(() => headerText(value, 'x-name')).toThrow(/The header x-name has the byte 0xEF.* 1/)
  })

  it('refuses U+FFFD in a text that a library decoded', () => {
    expect(() => losslessText('ab\ufffd', 'The name')).toThrow(/other bytes at character 2/)
    expect(losslessText('ab', 'The name')).toBe('ab')
  })
})
