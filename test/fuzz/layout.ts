/**
 * The places of the parts of an image file, and of the numbers that decoders trust: sizes, lengths,
 * counts. Malformed files are read as far as possible.
 */

/** A chunk, segment, block, directory entry or box. */
export interface Part {
  from: number
  to: number
}

export interface Field {
  at: number
  bytes: 1 | 2 | 4
  littleEndian: boolean
}

export interface Layout {
  parts: Part[]
  fields: Field[]
}

/** More than a small file has; bounds the loop for parts of length 0. */
const MOST_PARTS = 500

export function layoutOf(bytes: Buffer): Layout {
  const layout: Layout = { parts: [], fields: [] }
  try {
    reader(bytes)(bytes, layout)
  } catch (error) {
    // The length points past the end of the file.
    if (!(error instanceof RangeError)) throw error
  }
  layout.fields = layout.fields.filter(
    ({ at, bytes: length }) => at >= 0 && at + length <= bytes.length,
  )
  return layout
}

function reader(bytes: Buffer): (bytes: Buffer, layout: Layout) => void {
  const start = bytes.toString('latin1', 0, 12)
  if (start.startsWith('\x89PNG')) return readPng
  if (start.startsWith('\xff\xd8')) return readJpeg
  if (start.startsWith('RIFF')) return readRiff
  if (start.startsWith('GIF8')) return readGif
  if (start.startsWith('II') || start.startsWith('MM')) return readTiff
  return readBoxes
}

function add(
  { fields }: Layout,
  littleEndian: boolean,
  ...places: [at: number, bytes: Field['bytes']][]
): void {
  for (const [at, bytes] of places) fields.push({ at, bytes, littleEndian })
}

function readPng(bytes: Buffer, layout: Layout): void {
  for (let at = 8, count = 0; at < bytes.length && count < MOST_PARTS; count += 1) {
    const to = at + 12 + bytes.readUInt32BE(at)
    add(layout, false, [at, 4], [at + 8, 4])
    if (bytes.toString('latin1', at + 4, at + 8) === 'IHDR') {
      add(layout, false, [at + 12, 4], [at + 16, 1], [at + 17, 1], [at + 18, 1], [at + 20, 1])
    }
    layout.parts.push({ from: at, to })
    at = to
  }
}

function readJpeg(bytes: Buffer, layout: Layout): void {
  for (let at = 2, count = 0; at < bytes.length && count < MOST_PARTS; count += 1) {
    const marker = bytes.readUInt8(at + 1)
    let to = at + 2 + bytes.readUInt16BE(at + 2)
    add(layout, false, [at + 1, 1], [at + 2, 2], [at + 4, 1])
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)
    if (isFrame)
      add(layout, false, [at + 5, 2], [at + 7, 2], [at + 9, 1], [at + 11, 1], [at + 14, 1])
    // The bits of a scan follow its header, up to the next marker.
    if (marker === 0xda)
      while (to < bytes.length && !(bytes[to] === 0xff && (bytes[to + 1] ?? 0) >= 0xc0)) to += 1
    layout.parts.push({ from: at, to })
    at = to
  }
}

function readRiff(bytes: Buffer, layout: Layout): void {
  add(layout, true, [4, 4])
  for (let at = 12, count = 0; at < bytes.length && count < MOST_PARTS; count += 1) {
    const size = bytes.readUInt32LE(at + 4)
    add(
      layout,
      true,
      [at + 4, 4],
      [at + 8, 4],
      [at + 12, 2],
      [at + 14, 2],
      [at + 16, 2],
      [at + 18, 2],
    )
    layout.parts.push({ from: at, to: at + 8 + size + (size % 2) })
    // A frame of an animation has 16 bytes and then chunks.
    at += bytes.toString('latin1', at, at + 4) === 'ANMF' ? 24 : 8 + size + (size % 2)
  }
}

function readGif(bytes: Buffer, layout: Layout): void {
  const table = (flags: number): number => ((flags & 0x80) === 0 ? 0 : 3 * 2 ** ((flags & 7) + 1))
  add(layout, true, [6, 2], [8, 2], [10, 1])
  for (
    let at = 13 + table(bytes.readUInt8(10)), count = 0;
    bytes[at] !== 0x3b && count < MOST_PARTS;
    count += 1
  ) {
    if (at >= bytes.length) return
    const from = at
    const isImage = bytes[at] === 0x2c
    if (isImage) {
      add(layout, true, [at + 1, 2], [at + 3, 2], [at + 5, 2], [at + 7, 2], [at + 9, 1])
      at += 10 + table(bytes.readUInt8(at + 9))
      add(layout, true, [at, 1])
      at += 1
    } else at += 2
    add(layout, true, [at, 1])
    while (at < bytes.length && bytes[at] !== 0) at += 1 + bytes.readUInt8(at)
    at += 1
    layout.parts.push({ from, to: at })
  }
}

function readTiff(bytes: Buffer, layout: Layout): void {
  const little = bytes[0] === 0x49
  const u16 = (at: number): number => (little ? bytes.readUInt16LE(at) : bytes.readUInt16BE(at))
  const u32 = (at: number): number => (little ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at))
  add(layout, little, [2, 2], [4, 4])
  const seen = new Set<number>()
  for (let at = u32(4); at !== 0 && !seen.has(at) && seen.size < 20;) {
    seen.add(at)
    const entries = Math.min(u16(at), MOST_PARTS)
    add(layout, little, [at, 2])
    for (let entry = at + 2; entry < at + 2 + entries * 12; entry += 12) {
      add(
        layout,
        little,
        [entry, 2],
        [entry + 2, 2],
        [entry + 4, 4],
        [entry + 8, 4],
        [entry + 8, 2],
      )
      layout.parts.push({ from: entry, to: entry + 12 })
    }
    at += 2 + entries * 12
    add(layout, little, [at, 4])
    at = u32(at)
  }
}

/** Offset of the inner boxes in a box. */
const CONTAINERS: Record<string, number> = {
  meta: 12,
  iprp: 8,
  ipco: 8,
  iinf: 14,
  iref: 12,
  moov: 8,
  trak: 8,
  mdia: 8,
}

function readBoxes(bytes: Buffer, layout: Layout, from = 0, end = bytes.length): void {
  for (let at = from; at + 8 <= end && layout.parts.length < MOST_PARTS;) {
    const to = at + Math.max(8, bytes.readUInt32BE(at))
    const type = bytes.toString('latin1', at + 4, at + 8)
    add(
      layout,
      false,
      [at, 4],
      [at + 8, 1],
      [at + 12, 4],
      [at + 16, 4],
      [at + 12, 2],
      [at + 14, 2],
      [at + 20, 4],
    )
    layout.parts.push({ from: at, to })
    const inner = CONTAINERS[type]
    if (inner !== undefined) readBoxes(bytes, layout, at + inner, Math.min(to, end))
    at = to
  }
}
