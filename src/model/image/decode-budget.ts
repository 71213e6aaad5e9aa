/**
 * Limits the cost of one image of any format: a small file can expand to gigabytes or
 * compute for hours. A worker decodes one image at a time, so its own use is that of the image.
 */
import { TandemError } from '../../errors.js'

/** The costliest image of 50 megapixels that was measured took 2 s on one core. */
const MAX_CPU_S = 5
/** Resident memory of the process, of which some 100 MiB is its own. */
const MAX_MEMORY_MIB = 768
const INTERVAL_MS = 50

/**
 * Native code cannot be stopped: after `image_too_costly` the process must be replaced.
 *
 * @throws TandemError `image_too_costly`; what `decode` throws
 */
export async function withinBudget<Result>(decode: () => Promise<Result>): Promise<Result> {
  const before = process.cpuUsage()
  let timer: NodeJS.Timeout | undefined
  const exceeded = new Promise<never>((_resolve, reject) => {
    timer = setInterval(() => {
      const { user, system } = process.cpuUsage(before)
      if (user + system > MAX_CPU_S * 1e6)
        reject(tooCostly(`it takes more than ${MAX_CPU_S} s of processor time`))
      else if (process.memoryUsage.rss() > MAX_MEMORY_MIB * 2 ** 20)
        reject(tooCostly(`it takes more than ${MAX_MEMORY_MIB} MiB of memory`))
    }, INTERVAL_MS)
  })
  try {
    return await Promise.race([decode(), exceeded])
  } finally {
    clearInterval(timer)
  }
}

function tooCostly(reason: string): TandemError {
  return new TandemError('image_too_costly', `The image is not decoded: ${reason}.`)
}
