/** Damages one file of a data folder at random. */
import { open, readdir, rm, stat, truncate } from 'node:fs/promises'
import { join, relative } from 'node:path'

const PAGE_BYTES = 4096

/** Numbers from 0 to below 1, the same for a seed. */
export type Random = () => number

export function randomFrom(seed: number): Random {
  let state = seed >>> 0
  // mulberry32
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export type Part = 'items' | 'index'
export const PARTS: readonly Part[] = ['items', 'index']

type Corruption = (file: string, bytes: number, random: Random) => Promise<string>

const corruptions: Readonly<Record<string, Corruption>> = {
  'bit flips': async (file, bytes, random) => {
    const count = 1 + Math.floor(random() * 16)
    const handle = await open(file, 'r+')
    for (let flip = 0; flip < count; flip += 1) {
      const at = Math.floor(random() * bytes)
      const byte = Buffer.alloc(1)
      await handle.read(byte, 0, 1, at)
      byte[0] = (byte[0] ?? 0) ^ (1 << Math.floor(random() * 8))
      await handle.write(byte, 0, 1, at)
    }
    await handle.close()
    return `${count} flipped bits`
  },
  truncation: async (file, bytes, random) => {
    const left = Math.floor(random() * bytes)
    await truncate(file, left)
    return `cut to ${left} of ${bytes} bytes`
  },
  'page of zeros': async (file, bytes, random) => overwrite(file, bytes, random, () => 0),
  'page of noise': async (file, bytes, random) =>
    overwrite(file, bytes, random, () => Math.floor(random() * 256)),
  'missing file': async (file) => {
    await rm(file)
    return 'removed'
  },
}
export const KINDS: readonly string[] = Object.keys(corruptions)

async function overwrite(
  file: string,
  bytes: number,
  random: Random,
  value: () => number,
): Promise<string> {
  const at = Math.floor((random() * bytes) / PAGE_BYTES) * PAGE_BYTES
  const content = Uint8Array.from({ length: Math.min(PAGE_BYTES, bytes - at) }, value)
  const handle = await open(file, 'r+')
  await handle.write(content, 0, content.length, at)
  await handle.close()
  return `bytes ${at} to ${at + content.length} overwritten`
}

/** @returns what was done, with the name of the file */
export async function corrupt(
  dataFolder: string,
  part: Part,
  kind: string,
  random: Random,
): Promise<string> {
  const entries = await readdir(join(dataFolder, part), { recursive: true, withFileTypes: true })
  const files = entries
    .filter((entry) => entry.isFile() && entry.name !== 'lock.mdb')
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
  const file = files[Math.floor(random() * files.length)] as string
  const { size } = await stat(file)
  const what = await (corruptions[kind] as Corruption)(file, size, random)
  return `${relative(dataFolder, file)}: ${what}`
}
