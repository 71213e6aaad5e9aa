/** The service's side of the process that decodes images. */
import { WorkerProcess, type Report, type WorkerStatus } from '../../worker/worker-process.js'
import { availableCores } from '../inference/cpu-quota.js'
import type { Commands, Decoded } from './decoder-worker.js'
import type { PixelRules } from '../bundle/bundle.js'

/** Arenas of glibc's allocator; the default of one per thread keeps more memory after images. */
const MALLOC_ARENAS = 2
/** The default of libuv. */
const MIN_THREADS = 4
/** libvips has a shorter limit (preprocess.ts); a process that takes longer hangs and is killed. */
const DECODE_TIMEOUT_MS = 30_000

export class Decoder {
  readonly #process: WorkerProcess<Commands>
  readonly #maxPixels: number

  private constructor(process: WorkerProcess<Commands>, maxPixels: number) {
    this.#process = process
    this.#maxPixels = maxPixels
  }

  /** @param maxPixels - images with more are refused by their header */
  static async open(maxPixels: number, report?: Report): Promise<Decoder> {
    const process = await WorkerProcess.start<Commands>({
      name: 'decoder',
      module: new URL('./decoder-worker.js', import.meta.url),
      code: 'decoder_unavailable',
      subject: 'The decoder of images',
      environment: {
        UV_THREADPOOL_SIZE: String(Math.max(availableCores(), MIN_THREADS)),
        MALLOC_ARENA_MAX: String(MALLOC_ARENAS),
      },
      report,
    })
    return new Decoder(process, maxPixels)
  }

  get status(): WorkerStatus {
    return this.#process.status
  }

  /**
   * Decodes an image to the pixels of the image encoder and to the image that is stored.
   * @param into - a new file for the pixels, which the caller removes; null to return the pixels
   * @param isStored - whether to encode the image to store
   * @throws TandemError as `preprocess`; `decoder_unavailable` when the process is not ready, dies
   *   or hangs
   */
  decode(
    bytes: Uint8Array,
    rules: PixelRules,
    into: string | null = null,
    isStored = true,
  ): Promise<Decoded> {
    return this.#process.call(
      'decode',
      { bytes, rules, maxPixels: this.#maxPixels, into, isStored },
      DECODE_TIMEOUT_MS,
    )
  }

  /** Resolves when pending images are decoded and the process has ended. */
  close(): Promise<void> {
    return this.#process.close()
  }
}
