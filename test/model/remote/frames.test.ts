import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  counts,
  doubles,
  floats,
  FrameError,
  int8s,
  readFrame,
  rowNumbers,
  writeFrame,
} from '../../../src/model/remote/frames.js'

describe('a frame', () => {
  it('is read as it was written, with parts of any length', () => {
    const parts = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 8 })
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), parts, (head, given) => {
        const { head: found, parts: pieces } = readFrame(writeFrame(head, given))
        expect(pieces.map((part) => [...part])).toEqual(given.map((part) => [...part]))
        expect(found).toEqual(
          JSON.parse(JSON.stringify({ ...head, parts: given.map(({ length }) => length) })),
        )
      }),
    )
  })

  it('has numbers that no place in it can bend', () => {
    const values = Float32Array.from([1.5, -2, 3e-8])
    const { parts } = readFrame(
      writeFrame({}, [
        new Uint8Array(3),
        values,
        Float64Array.from([0.1]),
        Int8Array.from([-128, 127]),
      ]),
    )
    expect(floats(parts[1], 'values', 3)).toEqual(values)
    expect([...doubles(parts[2], 'one', 1)]).toEqual([0.1])
    expect([...int8s(parts[3], 'bytes', 2)]).toEqual([-128, 127])
  })

  it('is not read where it is cut off, longer, or anything else', () => {
    const whole = writeFrame({ a: 'ä' }, [new Uint8Array(10)])
    for (let length = 0; length < whole.length; length += 1)
      expect(() => readFrame(whole.subarray(0, length))).toThrow(FrameError)
    expect(() => readFrame(Buffer.concat([whole, Buffer.alloc(1)]))).toThrow(
      /has \d+ bytes where its head says \d+/,
    )
    const headed = (head: string): Buffer => {
      const text = Buffer.from(head, 'latin1')
      const length = Buffer.alloc(4)
      length.writeUInt32LE(text.length)
      return Buffer.concat([Buffer.from('TDF1'), length, text])
    }
    for (const head of [
      '',
      '[]',
      'null',
      '{',
      '{"parts":[-1]}',
      '{"parts":[0.5]}',
      '{"parts":[1e300]}',
      '{"parts":{}}',
      '{}',
      '"\xff"',
    ]) {
      expect(() => readFrame(headed(head)), head).toThrow(FrameError)
    }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        expect(() => readFrame(Buffer.from(bytes))).toThrow(FrameError)
      }),
    )
  })

  it('has no number that is none, no row beyond its list, and no part of another length', () => {
    const part = (values: ArrayBufferView): Uint8Array =>
      readFrame(writeFrame({}, [values])).parts[0] as Uint8Array
    expect(() => floats(part(Float32Array.from([1, Number.NaN])), 'embeddings', 2)).toThrow(
      'has a number in embeddings that is not finite',
    )
    expect(() => doubles(part(Float64Array.from([Infinity])), 'logits', 1)).toThrow(FrameError)
    expect(() => floats(part(new Float32Array(2)), 'embeddings', 3)).toThrow(
      'has 8 bytes of embeddings; expected 12',
    )
    expect(() => int8s(undefined, 'image tokens', 3)).toThrow(
      'has no bytes of image tokens; expected 3',
    )
    expect(() => rowNumbers(part(Uint32Array.from([0, 2])), 'texts of pairs', 2, 2)).toThrow(
      'beyond the 2 that there are',
    )
    expect(() => counts({ a: [1, 2, 3] }, 'a', 2, 9)).toThrow(FrameError)
    expect(() => counts({ a: ['1'] }, 'a', 2, 9)).toThrow(FrameError)
  })
})
