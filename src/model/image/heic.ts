/**
 * HEIC images, read by libheif-js where it is installed: its licence is LGPL-3.0. A thread decodes,
 * so that this one can watch the budget (decode-budget.ts).
 */
import { createRequire } from 'node:module'
import { Worker } from 'node:worker_threads'
import { TandemError } from '../../errors.js'
import type { HeicInput, HeicReply } from './heic-thread.js'

const LIBRARY = 'libheif-js/wasm-bundle.js'

/**
 * The primary image of a HEIC file as an uncompressed TIFF, upright and with its colour profile.
 *
 * @throws TandemError `image_type_unsupported` without the library; `image_too_large`, `timed_out`;
 *   Error with the reason of libheif
 */
export async function heicAsTiff(
  bytes: Uint8Array,
  limits: { maxPixels: number; maxSide: number },
  timeoutS: number,
): Promise<Uint8Array> {
  const library = installed()
  if (library === undefined) throw notInstalled()
  const signal = AbortSignal.timeout(timeoutS * 1000)
  const input = { bytes: new Uint8Array(bytes), ...limits, library }
  const reply = await decode(input, signal).catch((error: Error): never => {
    if (!signal.aborted) throw error
    throw new TandemError('timed_out', `The image was not decoded within ${timeoutS} s.`)
  })
  if ('tiff' in reply) return reply.tiff
  if ('tooLarge' in reply) {
    const { maxPixels, maxSide } = limits
    throw new TandemError('image_too_large', { ...reply.tooLarge, maxPixels, maxSide })
  }
  throw new Error(reply.reason)
}

/** The file of the library. */
function installed(): string | undefined {
  try {
    return createRequire(import.meta.url).resolve(LIBRARY)
  } catch {
    return undefined
  }
}

function decode(workerData: HeicInput, signal: AbortSignal): Promise<HeicReply> {
  return new Promise((resolve, reject) => {
    const thread = new Worker(new URL('./heic-thread.js', import.meta.url), {
      workerData,
      transferList: [workerData.bytes.buffer as ArrayBuffer],
    })
    const stop = (): void => void thread.terminate()
    signal.addEventListener('abort', stop)
    thread.once('message', resolve)
    thread.once('error', (error) => resolve({ reason: error.message }))
    thread.once('exit', () => {
      signal.removeEventListener('abort', stop)
      reject(new Error('The thread ended before it answered.'))
    })
  })
}

function notInstalled(): TandemError {
  return new TandemError(
    'image_type_unsupported',
    'HEIC images are not read here. Install libheif-js beside the service ' +
      '("npm install libheif-js"), or convert them to JPEG first, for example with ' +
      '"heif-convert photo.heic photo.jpg" or, on macOS, ' +
      '"sips -s format jpeg photo.heic --out photo.jpg".',
  )
}
