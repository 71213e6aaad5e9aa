/** Image files of every kind that clients send, valid and invalid. */
import { deflateSync } from 'node:zlib'
import sharp from 'sharp'

const SIDE = 24

/** Left half red, right half blue, so that a rotated, mirrored or cropped copy differs. */
export function twoColours(channels: 3 | 4 = 3) {
  const pixels = Buffer.alloc(SIDE * SIDE * channels, 255)
  for (let at = 0; at < SIDE * SIDE; at += 1) {
    pixels.set(at % SIDE < SIDE / 2 ? [255, 0, 0] : [0, 0, 255], at * channels)
  }
  return sharp(pixels, { raw: { width: SIDE, height: SIDE, channels } })
}

export const jpeg = (): Promise<Buffer> => twoColours().jpeg({ quality: 95 }).toBuffer()

/** Valid images by kind. */
export const working: Record<string, () => Promise<Buffer>> = {
  'a JPEG': jpeg,
  'a progressive JPEG': () => twoColours().jpeg({ progressive: true }).toBuffer(),
  'a CMYK JPEG': () => twoColours().toColourspace('cmyk').jpeg().toBuffer(),
  'a grayscale JPEG': () => twoColours().grayscale().jpeg().toBuffer(),
  'an EXIF-rotated JPEG': () => twoColours().withMetadata({ orientation: 6 }).jpeg().toBuffer(),
  'an 8-bit PNG': () => twoColours().png().toBuffer(),
  'a 16-bit PNG': () => twoColours().toColourspace('rgb16').png().toBuffer(),
  'a grayscale PNG': () => twoColours().grayscale().png().toBuffer(),
  'a 16-bit grayscale PNG': () => twoColours().toColourspace('grey16').png().toBuffer(),
  'a PNG with alpha': () => twoColours(4).ensureAlpha(0.5).png().toBuffer(),
  'a palette PNG': () => twoColours().png({ palette: true }).toBuffer(),
  'a WebP with alpha': () => twoColours(4).webp().toBuffer(),
  'a GIF': () => twoColours().gif().toBuffer(),
  'an animated GIF': animatedGif,
  'an image of one pixel': () => twoColours().resize(1, 1).png().toBuffer(),
  'a long thin image': () => twoColours().resize(900, 2, { fit: 'fill' }).png().toBuffer(),
}

export async function animatedGif(): Promise<Buffer> {
  const frames = [twoColours(), twoColours().negate()].map((frame) => frame.png().toBuffer())
  return sharp(await Promise.all(frames), { join: { animated: true } })
    .gif({ delay: [100, 100] })
    .toBuffer()
}

export const svg = Buffer.from(
  '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>',
)

/** A PNG of one colour with one bit for each pixel: a small file that is large when decoded. */
export function plainPng(width: number, height: number): Buffer {
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  header.set([1, 0, 0, 0, 0], 8)
  const rows = Buffer.alloc(height * (1 + Math.ceil(width / 8)))
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(rows, { level: 1 })),
    chunk('IEND', Buffer.alloc(0)),
  ])
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data])
  const framed = Buffer.alloc(body.length + 8)
  framed.writeUInt32BE(data.length, 0)
  framed.set(body, 4)
  framed.writeUInt32BE(crc32(body), body.length + 4)
  return framed
}

/** The CRC of the PNG standard; node:zlib has one only since Node 20.15. */
function crc32(bytes: Buffer): number {
  let crc = ~0
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0)
  }
  return ~crc >>> 0
}
