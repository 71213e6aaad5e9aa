/** Changes of a file that are known to break decoders, in its bytes and in its structure. */
import { crc32 } from './crc32.js'
import { layoutOf, type Field } from './layout.js'

/** A random number in [0, 1). */
export type Random = () => number

const NUMBERS = [
  0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 63, 64, 100, 127, 128, 129, 254, 255, 256, 257, 511, 512,
  1000, 4095, 4096, 16_383, 16_384, 16_385, 32_767, 32_768, 65_534, 65_535, 65_536, 0xff_ffff,
  0x100_0000, 0x3fff_ffff, 0x4000_0000, 0x7fff_fffe, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe,
  0xffff_ffff,
]
const MOST_CHANGES = 6
/** For PNGs: a wrong checksum is refused before the content is read. */
const SHARE_OF_RIGHT_CHECKSUMS = 0.8
/** Bounds the growth of a mutant: the decoder is tested, not the transport. */
const LARGEST = 65_536

export function below(limit: number, next: Random): number {
  return Math.floor(next() * limit)
}

export function oneOf<One>(all: readonly One[], next: Random): One {
  return all[below(all.length, next)] as One
}

type Mutation = (bytes: Buffer, next: Random, others: readonly Buffer[]) => Buffer

const mutations: readonly Mutation[] = [
  flipBits,
  flipBits,
  setByte,
  setNumber,
  editField,
  editField,
  editField,
  editField,
  copyRange,
  removeRange,
  insertNoise,
  truncate,
  splice,
  rearrangeParts,
  rearrangeParts,
]

/**
 * A changed copy of `bytes`.
 *
 * @param others - files to splice with
 */
export function mutate(bytes: Buffer, next: Random, others: readonly Buffer[]): Buffer {
  let mutant: Buffer = Buffer.from(bytes)
  const changes = 1 + below(MOST_CHANGES * next(), next)
  for (let at = 0; at < changes && mutant.length > 0; at += 1)
    mutant = oneOf(mutations, next)(mutant, next, others)
  if (next() < SHARE_OF_RIGHT_CHECKSUMS) repairChecksums(mutant)
  return mutant.subarray(0, LARGEST)
}

function flipBits(bytes: Buffer, next: Random): Buffer {
  for (let flips = 1 + below(8, next); flips > 0; flips -= 1) {
    const at = below(bytes.length, next)
    bytes[at] = (bytes[at] ?? 0) ^ (1 << below(8, next))
  }
  return bytes
}

function setByte(bytes: Buffer, next: Random): Buffer {
  bytes[below(bytes.length, next)] = below(256, next)
  return bytes
}

function setNumber(bytes: Buffer, next: Random): Buffer {
  const length = oneOf([1, 2, 4] as const, next)
  if (bytes.length >= length)
    write(
      bytes,
      { at: below(bytes.length - length + 1, next), bytes: length, littleEndian: next() < 0.5 },
      next,
    )
  return bytes
}

function editField(bytes: Buffer, next: Random): Buffer {
  const { fields } = layoutOf(bytes)
  if (fields.length > 0) write(bytes, oneOf(fields, next), next)
  return bytes
}

/** A number that often breaks code, or a neighbour of the present one. */
function write(bytes: Buffer, { at, bytes: length, littleEndian }: Field, next: Random): void {
  const present = littleEndian ? bytes.readUIntLE(at, length) : bytes.readUIntBE(at, length)
  const value =
    next() < 0.6 ? oneOf(NUMBERS, next) : present + oneOf([-2, -1, 1, 2, present, 256], next)
  const fitting = ((value % 256 ** length) + 256 ** length) % 256 ** length
  if (littleEndian) bytes.writeUIntLE(fitting, at, length)
  else bytes.writeUIntBE(fitting, at, length)
}

function range(bytes: Buffer, next: Random): [from: number, to: number] {
  const from = below(bytes.length, next)
  return [from, Math.min(bytes.length, from + 1 + below(64, next))]
}

function copyRange(bytes: Buffer, next: Random): Buffer {
  bytes.copy(bytes, below(bytes.length, next), ...range(bytes, next))
  return bytes
}

function removeRange(bytes: Buffer, next: Random): Buffer {
  const [from, to] = range(bytes, next)
  return Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)])
}

function insertNoise(bytes: Buffer, next: Random): Buffer {
  const at = below(bytes.length, next)
  const noise = Buffer.from(Array.from({ length: 1 + below(32, next) }, () => below(256, next)))
  return Buffer.concat([bytes.subarray(0, at), noise, bytes.subarray(at)])
}

function truncate(bytes: Buffer, next: Random): Buffer {
  return bytes.subarray(0, below(bytes.length, next))
}

function splice(bytes: Buffer, next: Random, others: readonly Buffer[]): Buffer {
  const other = oneOf(others, next)
  return Buffer.concat([
    bytes.subarray(0, below(bytes.length, next)),
    other.subarray(below(other.length, next)),
  ])
}

/** Drops, repeats or swaps a part, or inserts one of another file. */
function rearrangeParts(bytes: Buffer, next: Random, others: readonly Buffer[]): Buffer {
  const { parts } = layoutOf(bytes)
  if (parts.length === 0) return bytes
  const { from, to } = oneOf(parts, next)
  const [before, part, after] = [
    bytes.subarray(0, from),
    bytes.subarray(from, to),
    bytes.subarray(to),
  ]
  const other = oneOf(others, next)
  const foreign = oneOf(layoutOf(other).parts, next) as { from: number; to: number } | undefined
  const twin = oneOf(parts, next)
  const arrangements = [
    [before, after],
    [before, part, part, after],
    [before, after, part],
    [before, bytes.subarray(twin.from, twin.to), after],
    [before, other.subarray(foreign?.from ?? 0, foreign?.to), part, after],
  ]
  return Buffer.concat(oneOf(arrangements, next))
}

function repairChecksums(bytes: Buffer): void {
  if (bytes[0] !== 0x89) return
  for (const { from, to } of layoutOf(bytes).parts) {
    if (to <= bytes.length) bytes.writeUInt32BE(crc32(bytes.subarray(from + 4, to - 4)), to - 4)
  }
}
