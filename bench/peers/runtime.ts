/**
 * Throughput of the bare runtime for a workload: the upper bound of any service.
 */
import { availableCores } from '../../src/model/inference/cpu-quota.js'
import { median } from '../../test/soak/figures.js'
import { Bare } from '../bare.js'
import type { Workload } from './workloads.js'

/** Texts in a batch, with which it encodes the most (bench/saturation.ts). */
export const BARE_ROWS = 32

/**
 * @returns texts or photos a second, the median of `rounds`; null for a search, which takes more
 * than the runtime
 */
export async function bareRate(
  name: Workload['name'],
  bundle: string,
  { captions, images }: { captions: readonly string[]; images: readonly Buffer[] },
  { seconds, rounds }: { seconds: number; rounds: number },
): Promise<number | null> {
  if (name === 'search') return null
  const bare = await Bare.open(bundle, availableCores(), 1)
  try {
    const rates: number[] = []
    for (let round = 0; round < rounds; round += 1) {
      rates.push(
        await (name === 'text'
          ? bare.texts(captions, Math.min(BARE_ROWS, captions.length), seconds)
          : bare.photos(images, seconds, false)),
      )
    }
    return median(rates)
  } finally {
    await bare.close()
  }
}
