/** What the header of an image promises of the time that decoding takes. */
import sharp, { type Sharp } from 'sharp'
import { describe, expect, it } from 'vitest'
import { isQuickToDecode } from '../../../src/model/image/decode-cost.js'
import { claimedSize } from '../../../src/model/image/file-header.js'
import { plainPng, twoColours } from '../../support/images.js'

const passes = { progressive: true }
const large = (side: number): Sharp => sharp(plainPng(side, side))
const deep = (side: number): Sharp => large(side).toColourspace('rgb16')

async function animation(): Promise<Buffer> {
  const frames = [await twoColours().png().toBuffer(), await twoColours().negate().png().toBuffer()]
  return sharp(frames, { join: { animated: true } })
    .webp()
    .toBuffer()
}

describe('an image that is quick to decode', () => {
  it.each([
    ['a JPEG of 16 megapixels', () => large(4000).jpeg().toBuffer(), true],
    ['a JPEG of 20 megapixels', () => large(4500).jpeg().toBuffer(), false],
    ['a progressive JPEG of 4 megapixels', () => large(2000).jpeg(passes).toBuffer(), true],
    ['a progressive JPEG of 9 megapixels', () => large(3000).jpeg(passes).toBuffer(), false],
    ['a PNG of 16 megapixels', () => plainPng(4000, 4000), true],
    ['a PNG of 20 megapixels', () => plainPng(4500, 4500), false],
    ['an interlaced PNG of 4 megapixels', () => large(2000).png(passes).toBuffer(), true],
    ['an interlaced PNG of 9 megapixels', () => large(3000).png(passes).toBuffer(), false],
    ['a PNG of 9 megapixels in 16 bits', () => deep(3000).png().toBuffer(), false],
    ['a WebP of 4 megapixels', () => large(2000).webp({ effort: 0 }).toBuffer(), true],
    ['a WebP of 9 megapixels', () => large(3000).webp({ effort: 0 }).toBuffer(), false],
    ['a GIF of 4 megapixels', () => large(2000).gif().toBuffer(), true],
    ['a GIF of 9 megapixels', () => large(3000).gif().toBuffer(), false],
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
