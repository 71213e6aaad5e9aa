/** What the bare runtime does of a workload, with no service around it: the most that any service could. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { coresGiven } from '../../src/model/cores.js'
import { median } from '../../test/soak/figures.js'
import { Bare } from '../bare.js'
import type { Workload } from './workloads.js'

/** Texts in a batch, with which it encodes the most (bench/saturation.ts). */
export const BARE_ROWS = 32

/** @returns texts or photos a second, the median of `rounds`; null for a search, which takes more than the runtime */
export async function bareRate(
  name: Workload['name'],
  bundle: string,
  { captions, pictures }: { captions: readonly string[]; pictures: readonly Buffer[] },
  { seconds, rounds }: { seconds: number; rounds: number },
): Promise<number | null> {
  if (name === 'search') return null
  const folder = await mkdtemp(join(tmpdir(), 'tandem-bare-'))
  const bare = await Bare.open(bundle, coresGiven(), 1)
  try {
    const files = pictures.map((_, at) => join(folder, `${at}.jpg`))
    await Promise.all(files.map((file, at) => writeFile(file, pictures[at] as Buffer)))
    const rates: number[] = []
    for (let round = 0; round < rounds; round += 1) {
      rates.push(await (name === 'text' ? bare.texts(captions, Math.min(BARE_ROWS, captions.length), seconds) : bare.photos(files, seconds, false)))
    }
    return median(rates)
  } finally {
    await Promise.all([bare.close(), rm(folder, { recursive: true })])
  }
}
