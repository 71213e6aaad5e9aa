/** Seeds of mutants: small files of each supported type in its variations. */
import sharp, { type Sharp } from 'sharp'
import { randomNumbers } from '../support/random-embeddings.js'

export type Kind = 'JPEG' | 'PNG' | 'WebP' | 'GIF' | 'TIFF' | 'AVIF'

/** Waves with some noise, so that compressed data is not trivial; `pages` of them stacked. */
function waves(width: number, height: number, channels: 1 | 3 | 4 = 3, pages = 1): Sharp {
  const next = randomNumbers(width * 1000 + height)
  const pixels = Buffer.alloc(width * height * pages * channels)
  for (let at = 0; at < pixels.length; at += 1)
    pixels[at] = 128 + 90 * Math.sin(at / 37) + 30 * next()
  return sharp(pixels, {
    raw: { width, height: height * pages, channels, ...(pages > 1 ? { pageHeight: height } : {}) },
  })
}

const makers: Record<Kind, (() => Sharp)[]> = {
  JPEG: [
    () => waves(48, 32).jpeg({ quality: 80 }),
    () => waves(33, 47).jpeg({ progressive: true, chromaSubsampling: '4:4:4' }),
    () => waves(40, 40, 1).jpeg({ quality: 50 }),
    () => waves(32, 32).toColourspace('cmyk').jpeg({ quality: 60 }),
    () =>
      waves(64, 16).withMetadata({ orientation: 6 }).jpeg({ quality: 40, optimiseCoding: true }),
  ],
  PNG: [
    () => waves(24, 20).png(),
    () => waves(16, 16, 4).png({ adaptiveFiltering: true }),
    () => waves(40, 30).png({ palette: true, colours: 16 }),
    () => waves(17, 15).png({ progressive: true }),
    () => waves(12, 12, 1).toColourspace('grey16').png(),
  ],
  WebP: [
    () => waves(48, 32).webp({ quality: 50 }),
    () => waves(32, 32, 4).webp({ quality: 60, alphaQuality: 40 }),
    () => waves(20, 24).webp({ lossless: true }),
    () => waves(16, 16, 4, 3).webp({ quality: 30 }),
  ],
  GIF: [
    () => waves(32, 24).gif({ colours: 8 }),
    () => waves(16, 16, 3, 3).gif({ colours: 4 }),
    () => waves(24, 24, 4).gif({ colours: 16, progressive: true }),
  ],
  TIFF: [
    () => waves(16, 12).tiff({ compression: 'none' }),
    () => waves(32, 24).tiff({ compression: 'lzw', predictor: 'horizontal' }),
    () => waves(32, 32).tiff({ compression: 'jpeg', quality: 60 }),
    () =>
      waves(64, 48, 1).tiff({ compression: 'deflate', tile: true, tileWidth: 32, tileHeight: 32 }),
    () =>
      waves(32, 32).tiff({
        compression: 'lzw',
        pyramid: true,
        tile: true,
        tileWidth: 16,
        tileHeight: 16,
      }),
    () => waves(16, 16, 3, 3).tiff({ compression: 'packbits' }),
  ],
  AVIF: [
    () => waves(32, 24).avif({ quality: 40, effort: 1 }),
    () => waves(16, 16, 4).avif({ quality: 40, effort: 1 }),
    () => waves(24, 24).avif({ lossless: true, effort: 1 }),
  ],
}

export const kinds = Object.keys(makers) as Kind[]

export async function seedsOf(kind: Kind): Promise<Buffer[]> {
  return Promise.all(makers[kind].map((make) => make().toBuffer()))
}
