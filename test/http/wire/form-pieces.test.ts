/** The pieces of a form are the bytes of its request, and end as that ends. */
import { once } from 'node:events'
import { PassThrough, Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { describe, expect, it } from 'vitest'
import { FormPieces } from '../../../src/http/wire/form-pieces.js'
import { turnsDuring } from '../../support/turns.js'

const tooLarge = (): Error => new Error('too large')
const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, at) => at % 251))

describe('the pieces of a form', () => {
  it('are its bytes in their order', async () => {
    const raw = Readable.from([bytes, bytes.subarray(0, 7), bytes.subarray(9)])
    const read = await buffer(new FormPieces(1_000_000, tooLarge).from(raw))
    expect(read).toEqual(Buffer.concat([bytes, bytes.subarray(0, 7), bytes.subarray(9)]))
  })

  it('have 16 KiB at most', async () => {
    const lengths: number[] = []
    const pieces = new FormPieces(1_000_000, tooLarge).from(Readable.from([bytes]))
    for await (const piece of pieces as AsyncIterable<Buffer>) lengths.push(piece.length)
    expect(Math.max(...lengths)).toBe(16_384)
  })

  it.each([
    ['after each chunk', Array<Buffer>(301).fill(bytes.subarray(0, 1000)), 300],
    ['for each 16 KiB of one chunk', [Buffer.alloc(91 * 16_384)], 90],
  ])('give others a turn %s', async (_, chunks, least) => {
    const pieces = new FormPieces(2_000_000, tooLarge).from(Readable.from(chunks))
    const { turns } = await turnsDuring(() => buffer(pieces))
    expect(turns).toBeGreaterThan(least)
  })

  it('end with the error where there are more bytes than allowed', async () => {
    const pieces = new FormPieces(100_006, tooLarge).from(
      Readable.from([bytes, bytes.subarray(0, 7)]),
    )
    await expect(buffer(pieces)).rejects.toThrow('too large')
  })

  it('end with the error of the connection', async () => {
    const raw = new PassThrough()
    const pieces = new FormPieces(1_000_000, tooLarge).from(raw)
    raw.write(bytes)
    raw.destroy(new Error('reset'))
    await expect(buffer(pieces)).rejects.toThrow('reset')
  })

  it('are closed without an end where the connection closes in the middle', async () => {
    const raw = new PassThrough()
    const pieces = new FormPieces(1_000_000, tooLarge).from(raw).resume()
    raw.write(bytes)
    raw.destroy()
    await once(pieces, 'close')
    expect(pieces.readableEnded).toBe(false)
  })
})
