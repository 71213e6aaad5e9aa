/**
 * The way of pixels from the decoder to inference: by files that live for as long as that takes and
 * as a rule never reach the disk. Sent through the service they would be copied eight times, and
 * its garbage collected for longer than it works. Who reads or writes one does so in one go:
 * through a pool of threads it would cost three times as much.
 */
import { closeSync, openSync, readSync, rmSync, unlinkSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm, unlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** size × size × 3 values, or the file that they lie in. */
export type Pixels = Uint8Array | { file: string }

/** Between a batch being sent to a worker that is free, and its files being read. */
const READ_TIMEOUT_MS = 5000

export class PixelFiles {
  /** Null where none can be made: pixels are sent then. */
  readonly #folder: string | null
  #files = 0

  private constructor(folder: string | null) {
    this.#folder = folder
  }

  static async open(): Promise<PixelFiles> {
    return new PixelFiles(await mkdtemp(join(tmpdir(), 'tandem-pixels-')).catch(() => null))
  }

  /**
   * Gives `decode` the name of a new file. What it leaves where it fails is removed; otherwise who
   * reads it takes it away.
   */
  async withFile<Value>(decode: (into: string | null) => Promise<Value>): Promise<Value> {
    const file = this.#folder === null ? null : join(this.#folder, String((this.#files += 1)))
    try {
      return await decode(file)
    } catch (error) {
      if (file !== null) this.remove({ file })
      throw error
    }
  }

  /** Removes the file of pixels that lie in one, and that nobody is going to read. */
  remove(pixels: Pixels): void {
    if ('file' in pixels) void unlink(pixels.file).catch(() => undefined)
  }

  /**
   * Removes those of a call that has been given up, when a batch that others share can no longer be
   * about to read them.
   */
  removeLater(pixels: Pixels): void {
    if ('file' in pixels) setTimeout(() => this.remove(pixels), READ_TIMEOUT_MS).unref()
  }

  /** Removes all that is left. */
  async close(): Promise<void> {
    if (this.#folder !== null) await rm(this.#folder, { recursive: true, force: true })
  }
}

/** Puts pixels into the new file `into`; where it cannot be written they stay as they are. */
export function writePixels(pixels: Uint8Array, into: string): Pixels {
  try {
    writeFileSync(into, pixels, { flag: 'wx', mode: 0o600 })
    return { file: into }
  } catch {
    rmSync(into, { force: true })
    return pixels
  }
}

/**
 * Reads the file of pixels into `row`, which they fill, and removes it. @throws Error where it has
 * fewer, or is not there
 */
export function readPixels(file: string, row: Uint8Array): void {
  const descriptor = openSync(file, 'r')
  try {
    if (readSync(descriptor, row, 0, row.length, 0) < row.length)
      throw new Error(`${file} is cut off`)
  } finally {
    closeSync(descriptor)
  }
  unlinkSync(file)
}
