/** An uncompressed TIFF around pixels of 8 bits: what libvips reads with a colour profile. */

/** Types of a field (TIFF 6.0, section 2). */
const [SHORT, LONG, UNDEFINED] = [3, 4, 7]
const HEADER_BYTES = 8
const ENTRY_BYTES = 12
const CHANNELS = 4

/**
 * A TIFF of RGBA pixels, in which `pixels` are to be filled.
 *
 * @param profile - an ICC profile
 */
export function rgbaTiff(
  width: number,
  height: number,
  profile: Uint8Array = new Uint8Array(),
): { file: Uint8Array; pixels: Uint8Array } {
  const pixelBytes = width * height * CHANNELS
  const bitsAt = HEADER_BYTES + pixelBytes
  const profileAt = bitsAt + 2 * CHANNELS
  const directory = profileAt + profile.length + (profile.length % 2)
  const fields: [tag: number, type: number, count: number, value: number][] = [
    [256, LONG, 1, width],
    [257, LONG, 1, height],
    // Bits of each sample.
    [258, SHORT, CHANNELS, bitsAt],
    // No compression, RGB.
    [259, SHORT, 1, 1],
    [262, SHORT, 1, 2],
    // One strip.
    [273, LONG, 1, HEADER_BYTES],
    [277, SHORT, 1, CHANNELS],
    [278, LONG, 1, height],
    [279, LONG, 1, pixelBytes],
    // The fourth sample is alpha, by which the others are not multiplied.
    [338, SHORT, 1, 2],
  ]
  if (profile.length > 0) fields.push([34_675, UNDEFINED, profile.length, profileAt])
  const size = directory + 2 + ENTRY_BYTES * fields.length + 4
  const file = Buffer.alloc(size)
  file.write('II*\0', 'latin1')
  file.writeUInt32LE(directory, 4)
  for (let i = 0; i < CHANNELS; i += 1) file.writeUInt16LE(8, bitsAt + 2 * i)
  file.set(profile, profileAt)
  file.writeUInt16LE(fields.length, directory)
  fields.forEach(([tag, type, count, value], i) => {
    const at = directory + 2 + ENTRY_BYTES * i
    file.writeUInt16LE(tag, at)
    file.writeUInt16LE(type, at + 2)
    file.writeUInt32LE(count, at + 4)
    file.writeUInt32LE(value, at + 8)
  })
  return { file, pixels: file.subarray(HEADER_BYTES, bitsAt) }
}
