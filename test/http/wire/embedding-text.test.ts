import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { base64OfFloats, jsonOfFloats } from '../../../src/http/wire/embedding-text.js'

const read = (json: string): Float32Array => Float32Array.from(JSON.parse(json) as number[])

describe('the JSON of an embedding', () => {
  it('parses to the same float32 for any value', () => {
    const floats = fc.float32Array({ noNaN: true, noDefaultInfinity: true, maxLength: 40 })
    const usual = fc
      .array(fc.float({ min: -1, max: 1, noNaN: true }), { maxLength: 40 })
      .map((values) => Float32Array.from(values))
    fc.assert(
      fc.property(fc.oneof(floats, usual), (values) => {
        // JSON has no negative zero.
        expect(read(jsonOfFloats(values))).toEqual(values.map((value) => value + 0))
      }),
      { numRuns: 2000 },
    )
  })

  it('parses to the same float32 next to powers of ten', () => {
    const bits = new Int32Array(1)
    const float = new Float32Array(bits.buffer)
    for (let power = 1; power >= 1e-8; power /= 10) {
      for (let step = -3; step <= 3; step += 1) {
        float[0] = power
        bits[0] = (bits[0] as number) + step
        expect(read(jsonOfFloats(float)), String(float[0])).toEqual(float)
        expect(read(jsonOfFloats(float.map((value) => -value)))).toEqual(
          float.map((value) => -value),
        )
      }
    }
  })

  it('has nine digits', () => {
    expect(jsonOfFloats(Float32Array.of())).toBe('[]')
    expect(jsonOfFloats(Float32Array.of(0, 1, -0.25))).toBe('[0.00000000,1.00000000,-0.250000000]')
    expect(jsonOfFloats(Float32Array.of(0.0123456789, -1.5e-5, 1e-7))).toBe(
      '[0.0123456791,-0.0000149999996,1.00000001e-7]',
    )
  })
})

describe('the base64 of an embedding', () => {
  it('encodes little-endian float32, also of a part of a larger array', () => {
    const all = Float32Array.of(7, 0.5, -0.25, 7)
    const bytes = Buffer.from(base64OfFloats(all.subarray(1, 3)), 'base64')
    expect([bytes.length, bytes.readFloatLE(0), bytes.readFloatLE(4)]).toEqual([8, 0.5, -0.25])
  })
})
