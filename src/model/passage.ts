/**
 * The way of pixels from the decoder to inference: by files that live for as long as that takes and as a rule never reach
 * the disk. Sent through the service they would be copied eight times, and its garbage collected for longer than it works.
 */
import { mkdtemp, rm, unlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Pixels } from './dual-encoder.js'

/** Between a batch being sent to a worker that is free, and its files being read. */
const LONGEST_TO_READ_MS = 5000

export class Passage {
  /** Null where none can be made: pixels are sent then. */
  readonly #folder: string | null
  #files = 0

  private constructor(folder: string | null) {
    this.#folder = folder
  }

  static async open(): Promise<Passage> {
    return new Passage(await mkdtemp(join(tmpdir(), 'tandem-pixels-')).catch(() => null))
  }

  /** Gives `decode` the name of a new file. What it leaves where it fails is removed; otherwise `free` or `freeLater` is to be called. */
  async through<Value>(decode: (into: string | null) => Promise<Value>): Promise<Value> {
    const file = this.#folder === null ? null : join(this.#folder, String((this.#files += 1)))
    try {
      return await decode(file)
    } catch (error) {
      if (file !== null) this.free({ file })
      throw error
    }
  }

  /** Removes the file of pixels that lie in one and have been read. */
  free(pixels: Pixels): void {
    if ('file' in pixels) void unlink(pixels.file).catch(() => undefined)
  }

  /** Removes those of a call that has been given up, when a batch that others share can no longer be about to read them. */
  freeLater(pixels: Pixels): void {
    if ('file' in pixels) setTimeout(() => this.free(pixels), LONGEST_TO_READ_MS).unref()
  }

  /** Removes all that is left. */
  async close(): Promise<void> {
    if (this.#folder !== null) await rm(this.#folder, { recursive: true, force: true })
  }
}
