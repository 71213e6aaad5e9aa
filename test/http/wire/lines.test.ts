import { Readable } from 'node:stream'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { linesOf } from '../../../src/http/wire/lines.js'
import { turnsDuring } from '../../support/turns.js'

async function linesIn(chunks: Buffer[], maxBytes = 1000) {
  const lines = []
  for await (const { index, bytes } of linesOf(Readable.from(chunks), maxBytes))
    lines.push([index, bytes?.toString().trim() ?? null])
  return lines
}

describe('the lines of a stream', () => {
  it('are the same however the stream is cut into chunks', async () => {
    const piece = fc.constantFrom(
      'a',
      'é',
      '{"b": 1}',
      ' ',
      '\t',
      '\r',
      '\n',
      '\n',
      '\v',
      '\f',
      '\0',
    )
    await fc.assert(
      fc.asyncProperty(
        fc.array(piece, { maxLength: 40 }).map((pieces) => Buffer.from(pieces.join(''))),
        fc.array(fc.nat(60), { maxLength: 5 }),
        async (bytes, cuts) => {
          const places = [0, ...cuts.map((at) => at % (bytes.length + 1)), bytes.length]
          places.sort((one, other) => one - other)
          const chunks = places.slice(1).map((end, at) => bytes.subarray(places[at], end))
          const lines = bytes.toString().split('\n')
          const expected = lines.map((line) => line.trim()).filter((line) => line !== '')
          expect(await linesIn(chunks)).toEqual(expected.map((line, index) => [index, line]))
        },
      ),
      { numRuns: 500 },
    )
  })

  it('are null where they are longer than allowed', async () => {
    const chunks = ['a\nbbbb', 'bbb\nccc\n   ddd'].map((text) => Buffer.from(text))
    expect(await linesIn(chunks, 3)).toEqual([
      [0, 'a'],
      [1, null],
      [2, 'ccc'],
      [3, 'ddd'],
    ])
  })

  it.each(['\n', ' \r\n'])('take little time where 20 MB of %j are empty', async (line) => {
    const chunk = Buffer.from(line.repeat(65_536 / line.length))
    const begun = process.cpuUsage()
    const { result, turns } = await turnsDuring(() => linesIn(Array<Buffer>(305).fill(chunk)))
    expect(result).toEqual([])
    expect(process.cpuUsage(begun).user).toBeLessThan(1_500_000)
    expect(turns).toBeGreaterThan(300)
  })
})
