/**
 * The service's side of the processes that decode images. Each decodes one image at a time, so that
 * an image which ends its process takes no other along.
 */
import { Limiter, type TaskOptions } from '../../async/limiter.js'
import { MovingAverage } from '../../async/moving-average.js'
import { TandemError } from '../../errors.js'
import { WorkerProcess, type Report, type WorkerStatus } from '../../worker/worker-process.js'
import { availableCores } from '../inference/cpu-quota.js'
import type { Commands, Decoded } from './decoder-worker.js'
import { isQuickToDecode } from './decode-cost.js'
import type { PixelRules } from '../bundle/bundle.js'

/** Arenas of glibc's allocator; the default of one per thread keeps more memory after images. */
const MALLOC_ARENAS = 2
/** libvips uses one to decode; the other encodes the image to store meanwhile. */
const THREADS = 2
/** decode-budget.ts limits processor time, which may take this long on a busy machine. */
const DECODE_TIMEOUT_MS = 60_000
/** A process starts in half a second; after this time, images no longer wait for it. */
const RETURN_TIMEOUT_MS = 5000
/** A message is copied on the event loop, at about a megabyte in a millisecond. */
const PIECE_BYTES = 2 ** 20
/** About the last ten images count. */
const DECODE_MEMORY = 0.9

export interface DecoderOptions {
  /** Images with more are refused by their header. */
  maxPixels: number
  /** Images that may wait before new ones are refused as `overloaded`; no limit by default. */
  maxWaiting?: number
  report?: Report | undefined
}

export interface DecodeOptions extends TaskOptions {
  /** A new file for the pixels, which the caller removes; null, the default, to return them. */
  into?: string | null
  /** Whether to encode the image to store; true by default. */
  isStored?: boolean
}

export class Decoder {
  readonly #options: DecoderOptions
  /** The most processes: one for each core, and one that a single client cannot take. */
  readonly #size = availableCores() + 1
  readonly #turns: Limiter
  /** Of images that may take long: they leave one process to the others. */
  readonly #slowTurns: Limiter
  readonly #processes: WorkerProcess<Commands>[] = []
  readonly #idle = new Set<WorkerProcess<Commands>>()
  readonly #starting = new Set<Promise<unknown>>()
  readonly #averageMs = new MovingAverage(DECODE_MEMORY)
  #isClosed = false

  private constructor(options: DecoderOptions) {
    this.#options = options
    const limits = { maxWaiting: options.maxWaiting ?? Infinity, full: queueFull }
    this.#turns = new Limiter(this.#size, { perClient: this.#size - 1, ...limits })
    this.#slowTurns = new Limiter(this.#size - 1, limits)
  }

  /** Starts one process; the others start when images wait. */
  static async open(options: DecoderOptions): Promise<Decoder> {
    const decoder = new Decoder(options)
    decoder.#idle.add(await decoder.#start())
    return decoder
  }

  get statuses(): readonly WorkerStatus[] {
    return this.#processes.map(({ status }) => status)
  }

  /** Images to be decoded before these of this client. */
  ahead(images: readonly Uint8Array[], task?: TaskOptions): number {
    const ahead = this.#turns.ahead(task)
    return images.every(isQuickToDecode) ? ahead : Math.max(ahead, this.#slowTurns.ahead(task))
  }

  /** Estimate of the milliseconds until these images of this client are decoded. */
  waitMs(images: readonly Uint8Array[], task?: TaskOptions): number {
    const isFree = this.#turns.isFree(task)
    if (isFree && (this.#slowTurns.isFree(task) || images.every(isQuickToDecode))) return 0
    return (this.#averageMs.value * (this.ahead(images, task) + images.length)) / this.#size
  }

  /**
   * Decodes an image to the pixels of the image encoder and to the image that is stored.
   * @throws TandemError as `preprocess`; `image_too_costly`; `overloaded`; `decoder_unavailable`
   *   when no process is ready, or it dies or hangs
   */
  async decode(
    bytes: Uint8Array,
    rules: PixelRules,
    options: DecodeOptions = {},
  ): Promise<Decoded> {
    const { into = null, isStored = true } = options
    const release = await this.#turn(bytes, options)
    let worker: WorkerProcess<Commands> | undefined
    try {
      worker = await this.#take()
      const started = performance.now()
      const last = await sendPieces(worker, bytes)
      const input = { bytes: last, rules, maxPixels: this.#options.maxPixels, into, isStored }
      const decoded = await worker.call('decode', input, DECODE_TIMEOUT_MS)
      this.#averageMs.add(performance.now() - started)
      return decoded
    } catch (error) {
      if (error instanceof TandemError && error.code === 'image_too_costly' && worker !== undefined)
        await restartIfDecoding(worker)
      throw error
    } finally {
      void this.#giveBack(worker).then(release)
    }
  }

  /** Resolves when pending images are decoded and the processes have ended. */
  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.allSettled(this.#starting)
    await Promise.all(this.#processes.map((worker) => worker.close()))
  }

  /** @returns a function that ends the turn */
  async #turn(bytes: Uint8Array, options: DecodeOptions): Promise<() => void> {
    if (isQuickToDecode(bytes)) return this.#turns.acquire(options)
    const releaseSlow = await this.#slowTurns.acquire(options)
    try {
      const release = await this.#turns.acquire(options)
      return () => {
        release()
        releaseSlow()
      }
    } catch (error) {
      releaseSlow()
      throw error
    }
  }

  async #take(): Promise<WorkerProcess<Commands>> {
    const ready = [...this.#idle].find((worker) => worker.ready)
    if (ready === undefined) return this.#startAnother()
    this.#idle.delete(ready)
    return ready
  }

  /**
   * The turn lasts until the process is ready again: a client whose images end processes waits for
   * them itself.
   */
  async #giveBack(worker: WorkerProcess<Commands> | undefined): Promise<void> {
    if (worker === undefined) return
    // The service stays ready while one process is.
    if (!this.#processes.some(({ ready }) => ready)) void this.#addSpare()
    await worker.returned(RETURN_TIMEOUT_MS)
    this.#idle.add(worker)
  }

  async #addSpare(): Promise<void> {
    const spare = await this.#startAnother().catch(() => undefined)
    if (spare !== undefined) this.#idle.add(spare)
  }

  async #startAnother(): Promise<WorkerProcess<Commands>> {
    const [first] = this.#processes as [WorkerProcess<Commands>]
    const isFull = this.#processes.length + this.#starting.size >= this.#size
    if (isFull || this.#isClosed) throw first.unavailable()
    const starting = this.#start()
    this.#starting.add(starting)
    try {
      return await starting
    } catch (error) {
      this.#options.report?.(`No further decoder process could be started: ${String(error)}`)
      throw first.unavailable()
    } finally {
      this.#starting.delete(starting)
    }
  }

  async #start(): Promise<WorkerProcess<Commands>> {
    const worker = await WorkerProcess.start<Commands>({
      name: 'decoder',
      module: new URL('./decoder-worker.js', import.meta.url),
      code: 'decoder_unavailable',
      subject: 'The decoder of images',
      environment: {
        UV_THREADPOOL_SIZE: String(THREADS),
        MALLOC_ARENA_MAX: String(MALLOC_ARENAS),
      },
      diesOfInput: true,
      report: this.#options.report,
    })
    this.#processes.push(worker)
    return worker
  }
}

function queueFull(waiting: number): TandemError {
  return new TandemError(
    'overloaded',
    `${waiting} images wait to be decoded, the most that may; try again in a moment.`,
    { retryAfterS: 1, reason: 'decoder_queue' },
  )
}

/** Sends all but the last piece of an image. @returns the last one */
async function sendPieces(worker: WorkerProcess<Commands>, bytes: Uint8Array): Promise<Uint8Array> {
  let from = 0
  for (; bytes.length - from > PIECE_BYTES; from += PIECE_BYTES) {
    const piece = bytes.subarray(from, from + PIECE_BYTES)
    await worker.call('keep', { piece, isFirst: from === 0 }, DECODE_TIMEOUT_MS)
  }
  return bytes.subarray(from)
}

/** An image is refused by its header, or native code computes on, which cannot be stopped. */
async function restartIfDecoding(worker: WorkerProcess<Commands>): Promise<void> {
  const isDecoding = await worker.call('isDecoding', null, DECODE_TIMEOUT_MS).catch(() => true)
  if (isDecoding) worker.restart()
}
