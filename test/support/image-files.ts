/** Image files that sharp does not write: TIFF of any kind, profiles beside given samples. */
import { crc32, deflateSync } from 'node:zlib'

export interface TiffOptions {
  width: number
  height: number
  samples: Buffer
  /** Bits a sample. */
  bits?: number
  samplesPerPixel?: number
  /** 2 is RGB, 8 is CIELab. */
  photometric?: number
  compression?: number
  /** 1 is unsigned, 2 is signed, 3 is floating point. */
  sampleFormat?: number
  profile?: Buffer
}

/** A little-endian TIFF of one strip. */
export function tiffFile({
  width,
  height,
  samples,
  bits = 8,
  samplesPerPixel = 3,
  photometric = 2,
  compression = 1,
  sampleFormat = 1,
  profile,
}: TiffOptions): Buffer {
  const short = (...values: number[]): Buffer => {
    const bytes = Buffer.alloc(2 * values.length)
    values.forEach((value, i) => bytes.writeUInt16LE(value, 2 * i))
    return bytes
  }
  const long = (value: number): Buffer => {
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32LE(value)
    return bytes
  }
  const each = (value: number): Buffer => short(...Array<number>(samplesPerPixel).fill(value))
  const tags: [tag: number, type: 3 | 4 | 7, value: Buffer][] = [
    [256, 4, long(width)],
    [257, 4, long(height)],
    [258, 3, each(bits)],
    [259, 3, short(compression)],
    [262, 3, short(photometric)],
    [273, 4, long(8)],
    [277, 3, short(samplesPerPixel)],
    [278, 4, long(height)],
    [279, 4, long(samples.length)],
    [339, 3, each(sampleFormat)],
    ...(profile === undefined ? [] : [[34_675, 7, profile] satisfies [number, 7, Buffer]]),
  ]
  const padded = samples.length % 2 === 0 ? samples : Buffer.concat([samples, Buffer.alloc(1)])
  const directory = 8 + padded.length
  const entries: Buffer[] = []
  const values: Buffer[] = []
  let end = directory + 2 + 12 * tags.length + 4
  for (const [tag, type, value] of tags) {
    const isInline = value.length <= 4
    const count = value.length / { 3: 2, 4: 4, 7: 1 }[type]
    const inline = Buffer.concat([value, Buffer.alloc(4)]).subarray(0, 4)
    entries.push(short(tag, type), long(count), isInline ? inline : long(end))
    if (isInline) continue
    values.push(value, Buffer.alloc(value.length % 2))
    end += value.length + (value.length % 2)
  }
  const head = Buffer.concat([Buffer.from('II'), short(42), long(directory)])
  return Buffer.concat([head, padded, short(tags.length), ...entries, long(0), ...values])
}

/** A chunk of a PNG. */
export function pngChunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data])
  const [length, check] = [Buffer.alloc(4), Buffer.alloc(4)]
  length.writeUInt32BE(data.length)
  check.writeUInt32BE(crc32(body))
  return Buffer.concat([length, body, check])
}

/** The PNG with a profile that applies to its samples as they are. */
export function withProfile(png: Buffer, profile: Buffer): Buffer {
  const chunk = pngChunk('iCCP', Buffer.concat([Buffer.from('name\0\0'), deflateSync(profile)]))
  // After the signature and IHDR.
  return Buffer.concat([png.subarray(0, 33), chunk, png.subarray(33)])
}

/** A profile for grey samples that are the light to the power of 1 / gamma. */
export function greyProfile(gamma: number): Buffer {
  const white = Buffer.from('0000f6d6000100000000d32d', 'hex')
  const tags: [string, Buffer][] = [
    ['desc', Buffer.concat([Buffer.from('desc\0\0\0\0\0\0\0\x05grey\0'), Buffer.alloc(87)])],
    ['wtpt', Buffer.concat([Buffer.from('XYZ \0\0\0\0'), white])],
    ['kTRC', Buffer.concat([Buffer.from('curv\0\0\0\0\0\0\0\x01'), Buffer.from([gamma, 0, 0, 0])])],
  ]
  const table = Buffer.alloc(4 + 12 * tags.length)
  table.writeUInt32BE(tags.length)
  let at = 128 + table.length
  const values = tags.map(([name, value], i) => {
    table.write(name, 4 + 12 * i, 'latin1')
    table.writeUInt32BE(at, 8 + 12 * i)
    table.writeUInt32BE(value.length, 12 + 12 * i)
    const padded = Buffer.concat([value, Buffer.alloc((4 - (value.length % 4)) % 4)])
    at += padded.length
    return padded
  })
  const head = Buffer.alloc(128)
  head.writeUInt32BE(at)
  head.writeUInt32BE(0x02100000, 8)
  head.write('mntrGRAYXYZ ', 12, 'latin1')
  head.write('acsp', 36, 'latin1')
  white.copy(head, 68)
  return Buffer.concat([head, table, ...values])
}

/** A box of an ISO base media file, such as HEIC and AVIF. */
export function isoBox(type: string, content: Buffer): Buffer {
  const length = Buffer.alloc(4)
  length.writeUInt32BE(8 + content.length)
  return Buffer.concat([length, Buffer.from(type, 'latin1'), content])
}
