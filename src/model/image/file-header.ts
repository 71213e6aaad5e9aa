/** What the first bytes of an image file say: its type and its size, without decoding it. */

export type FileType = 'JPEG' | 'PNG' | 'WebP' | 'GIF' | 'TIFF' | 'AVIF' | 'HEIC'

export interface Size {
  width: number
  height: number
}

/** Segments before the frame header of a JPEG; cameras write some thirty. */
const MAX_SEGMENTS = 1000
/** Second bytes of their markers (ITU T.81, table B.1). */
const PROGRESSIVE_FRAMES = [0xc2, 0xc6, 0xca, 0xce]
/** Brands of files with HEVC images (ISO/IEC 23008-12, annex B). */
const HEVC_BRANDS = ['heic', 'heix', 'heim', 'heis', 'hevc', 'hevx', 'hevm', 'hevs']
const AV1_BRANDS = ['avif', 'avis']
/** Properties of a HEIF image are near the start of its file. */
const HEIF_HEAD_BYTES = 65_536

/** The type by signature; undefined if the bytes begin as none of these types. */
export function fileTypeOf(bytes: Uint8Array): FileType | undefined {
  const start = view(bytes).subarray(0, 16).toString('latin1')
  if (start.startsWith('\xff\xd8\xff')) return 'JPEG'
  if (start.startsWith('\x89PNG\r\n\x1a\n')) return 'PNG'
  if (/^GIF8[79]a/.test(start)) return 'GIF'
  if (/^RIFF[^]{4}WEBP/.test(start)) return 'WebP'
  if (/^(II[*+]\0|MM\0[*+])/.test(start)) return 'TIFF'
  const brands = brandsOf(bytes)
  if (brands.some((brand) => HEVC_BRANDS.includes(brand))) return 'HEIC'
  return brands.some((brand) => AV1_BRANDS.includes(brand)) ? 'AVIF' : undefined
}

/** The PNG variant of Apple's developer tools, which no other decoder reads. */
export function isApplePng(bytes: Uint8Array): boolean {
  return fileTypeOf(bytes) === 'PNG' && view(bytes).toString('latin1', 12, 16) === 'CgBI'
}

/** Whether the main brand is that of a sequence of images: an animated AVIF. */
export function isSequence(bytes: Uint8Array): boolean {
  return brandsOf(bytes)[0] === 'avis'
}

/** Whether a sequence of images has a still image too (ISO/IEC 23000-22). */
export function hasStillImage(bytes: Uint8Array): boolean {
  return brandsOf(bytes).some((brand) => ['avif', 'mif1'].includes(brand))
}

/** A copy of an AVIF with the main brand of a still image, for a loader that reads no other. */
export function asStillImage(bytes: Uint8Array): Uint8Array {
  const copy = Buffer.from(bytes)
  copy.write('avif', 8, 'latin1')
  return copy
}

/** The size that the header claims, also where a decoder rejects it; undefined if there is none. */
export function claimedSize(bytes: Uint8Array): Size | undefined {
  const file = view(bytes)
  try {
    const type = fileTypeOf(bytes)
    if (type === 'PNG') return { width: file.readUInt32BE(16), height: file.readUInt32BE(20) }
    if (type === 'TIFF') return tiffSize(file)
    if (type === 'JPEG') return jpegSize(file)
    if (type === 'GIF') return { width: file.readUInt16LE(6), height: file.readUInt16LE(8) }
    if (type === 'WebP') return webpSize(file)
    const at = type === 'AVIF' ? file.subarray(0, HEIF_HEAD_BYTES).indexOf('ispe') : -1
    if (at < 0) return undefined
    return { width: file.readUInt32BE(at + 8), height: file.readUInt32BE(at + 12) }
  } catch (error) {
    // The file ends within its header.
    if (error instanceof RangeError) return undefined
    throw error
  }
}

/** Whether the image is stored in several passes over its pixels: a PNG or JPEG alone. */
export function isProgressive(bytes: Uint8Array): boolean {
  const file = view(bytes)
  const type = fileTypeOf(bytes)
  if (type === 'PNG') return file[28] === 1
  const marker = type === 'JPEG' ? file[(jpegFrame(file) ?? 0) + 1] : undefined
  return marker !== undefined && PROGRESSIVE_FRAMES.includes(marker)
}

/** Bits of a sample of a PNG; 8 for other types. */
export function bitDepth(bytes: Uint8Array): number {
  return fileTypeOf(bytes) === 'PNG' ? (bytes[24] ?? 8) : 8
}

/** By a flag of the extended format of WebP (RFC 9649, section 2.7). */
export function isAnimatedWebp(bytes: Uint8Array): boolean {
  const isExtended =
    fileTypeOf(bytes) === 'WebP' && view(bytes).toString('latin1', 12, 16) === 'VP8X'
  return isExtended && ((bytes[20] ?? 0) & 2) !== 0
}

/** Scans of a JPEG (ITU T.81, B.2.3), up to `most`, without those of a thumbnail in a segment. */
export function countScans(bytes: Uint8Array, most: number): number {
  const file = view(bytes)
  let scans = 0
  let at = 2
  while (at + 4 <= file.length && scans < most) {
    at = file.indexOf(0xff, at)
    if (at < 0) break
    const marker = file[at + 1] ?? 0
    // Data and restarts (00, D0 to D7) and fill bytes have no length.
    if (marker === 0xff) at += 1
    else if (marker === 0 || (marker >= 0xd0 && marker <= 0xd8)) at += 2
    else if (marker === 0xd9 || at + 4 > file.length) break
    else {
      if (marker === 0xda) scans += 1
      at += 2 + file.readUInt16BE(at + 2)
    }
  }
  return scans
}

function view(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** Main brand, then compatible brands, of the ftyp box at the start; empty without one. */
function brandsOf(bytes: Uint8Array): string[] {
  const file = view(bytes)
  if (file.length < 12 || file.toString('latin1', 4, 8) !== 'ftyp') return []
  const listed = file.toString('latin1', 16, Math.min(file.readUInt32BE(0), file.length, 1024))
  return [file.toString('latin1', 8, 12), ...(listed.match(/[^]{4}/g) ?? [])]
}

/** From the first directory of a TIFF (TIFF 6.0, section 2), not of a BigTIFF. */
function tiffSize(file: Buffer): Size | undefined {
  const isLittle = file[0] === 0x49
  const short = (at: number): number => (isLittle ? file.readUInt16LE(at) : file.readUInt16BE(at))
  const long = (at: number): number => (isLittle ? file.readUInt32LE(at) : file.readUInt32BE(at))
  if (short(2) !== 42) return undefined
  const directory = long(4)
  const size: { 256?: number; 257?: number } = {}
  for (let i = 0; i < short(directory); i += 1) {
    const entry = directory + 2 + i * 12
    const tag = short(entry)
    if (tag === 256 || tag === 257) size[tag] = (short(entry + 2) === 3 ? short : long)(entry + 8)
  }
  const { 256: width, 257: height } = size
  return width === undefined || height === undefined ? undefined : { width, height }
}

/** From the first chunk of a WebP (RFC 9649), a header of VP8 (RFC 6386, 9.1) or VP8L. */
function webpSize(file: Buffer): Size | undefined {
  const chunk = file.toString('latin1', 12, 16)
  if (chunk === 'VP8X')
    return { width: file.readUIntLE(24, 3) + 1, height: file.readUIntLE(27, 3) + 1 }
  if (chunk === 'VP8 ')
    return { width: file.readUInt16LE(26) & 0x3fff, height: file.readUInt16LE(28) & 0x3fff }
  if (chunk !== 'VP8L') return undefined
  const bits = file.readUInt32LE(21)
  return { width: (bits & 0x3fff) + 1, height: ((bits >>> 14) & 0x3fff) + 1 }
}

/** From the frame header of a JPEG. */
function jpegSize(file: Buffer): Size | undefined {
  const at = jpegFrame(file)
  return at === undefined
    ? undefined
    : { width: file.readUInt16BE(at + 7), height: file.readUInt16BE(at + 5) }
}

/** Where the frame header of a JPEG begins (ITU T.81, B.2.2). @throws RangeError */
function jpegFrame(file: Buffer): number | undefined {
  let at = 2
  for (let segment = 0; segment < MAX_SEGMENTS && file.readUInt8(at) === 0xff; segment += 1) {
    const marker = file.readUInt8(at + 1)
    // C4, C8 and CC are tables and an extension.
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) return at
    at += 2 + file.readUInt16BE(at + 2)
  }
  return undefined
}
