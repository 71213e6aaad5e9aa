import fc from 'fast-check'
import { expect, it } from 'vitest'
import { GrowingBuffer } from '../../src/http/growing-buffer.js'

it('joins pieces of any size, with any expected length', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 50 })), fc.nat(2000), (pieces, expected) => {
      const joined = new GrowingBuffer(expected)
      for (const piece of pieces) joined.add(piece)
      expect(joined.length).toBe(pieces.reduce((sum, { length }) => sum + length, 0))
      expect(joined.bytes().equals(Buffer.concat(pieces))).toBe(true)
    }),
  )
})

it('needs no more memory than twice its bytes, and nothing for those that are only expected', () => {
  const before = process.memoryUsage().arrayBuffers
  const waiting = Array.from({ length: 100 }, () => new GrowingBuffer(20_000_000))
  const joined = new GrowingBuffer()
  for (let at = 0; at < 1_000_000; at += 1) joined.add(Buffer.of(at % 251))
  expect(waiting).toHaveLength(100)
  expect(joined.bytes().buffer.byteLength).toBeLessThan(2_000_001)
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(100_000_000)
})
