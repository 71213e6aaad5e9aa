/** What the first bytes of a file promise of the time that decoding it takes. */
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { claimedSize, isQuickToDecode } from '../../../src/model/image/file-header.js'
import { plainPng, twoColours } from '../../support/images.js'

async function animation(): Promise<Buffer> {
  const frames = [await twoColours().png().toBuffer(), await twoColours().negate().png().toBuffer()]
  return sharp(frames, { join: { animated: true } })
    .webp()
    .toBuffer()
}

describe('an image that is quick to decode', () => {
  it.each([
    ['a JPEG', () => twoColours().jpeg().toBuffer(), true],
    ['a progressive JPEG', () => twoColours().jpeg({ progressive: true }).toBuffer(), true],
    ['a WebP', () => twoColours().webp().toBuffer(), true],
    ['a GIF', () => twoColours().gif().toBuffer(), true],
    ['a PNG of 16 megapixels', () => plainPng(4000, 4000), true],
    ['a PNG of 18 megapixels', () => plainPng(4500, 4000), false],
    ['an animated WebP', animation, false],
    ['an AVIF', () => twoColours().avif().toBuffer(), false],
    ['a TIFF', () => twoColours().tiff().toBuffer(), false],
    ['a PNG that ends within its header', () => plainPng(8, 8).subarray(0, 18), false],
    ['bytes of no known type', () => Buffer.from('a note'), false],
  ])('%s', async (_, make, expected) => {
    expect(isQuickToDecode(await make())).toBe(expected)
  })
})

it('looks for the size of a JPEG in its first thousand segments', async () => {
  const image = await twoColours().jpeg().toBuffer()
  const after = (segments: number): Buffer => {
    const comment = Buffer.from('fffe0002', 'hex')
    return Buffer.concat([
      image.subarray(0, 2),
      ...Array<Buffer>(segments).fill(comment),
      image.subarray(2),
    ])
  }
  expect(claimedSize(after(900))).toEqual(claimedSize(image))
  expect(claimedSize(after(2000))).toBeUndefined()
})
