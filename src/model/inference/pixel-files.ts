/**
 * Pixels on their way from the decoder to inference, in short-lived files that rarely reach the
 * disk. Messages through the service would copy them eight times and cost more garbage collection
 * than work. Files are read and written synchronously, at a third of the cost of the thread pool.
 */
import { closeSync, openSync, readSync, rmSync, unlinkSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm, unlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { nameWithProcess, removeLeftFolders } from '../../files/left-folders.js'

/** size × size × 3 values, or the file that holds them. */
export type Pixels = Uint8Array | { file: string }

/** Begins the name of the folder. */
const NAME = 'tandem-pixels-'
/** Maximum time from sending a batch to a free worker until its files are read. */
const READ_TIMEOUT_MS = 5000

export class PixelFiles {
  /** Null if it cannot be created; pixels are then sent in messages. */
  readonly #folder: string | null
  #files = 0

  private constructor(folder: string | null) {
    this.#folder = folder
  }

  static async open(): Promise<PixelFiles> {
    await removeLeftFolders(tmpdir(), NAME)
    const place = join(tmpdir(), nameWithProcess(NAME))
    return new PixelFiles(await mkdtemp(place).catch(() => null))
  }

  /** Calls `decode` with the name of a new file; removes the file if it fails. */
  async withFile<Value>(decode: (into: string | null) => Promise<Value>): Promise<Value> {
    const file = this.#folder === null ? null : join(this.#folder, String((this.#files += 1)))
    try {
      return await decode(file)
    } catch (error) {
      if (file !== null) this.remove({ file })
      throw error
    }
  }

  /** Removes the file of pixels that will not be read. */
  remove(pixels: Pixels): void {
    if ('file' in pixels) void unlink(pixels.file).catch(() => undefined)
  }

  /** As `remove`, after the time in which a batch that is already sent may still read them. */
  removeLater(pixels: Pixels): void {
    if ('file' in pixels) setTimeout(() => this.remove(pixels), READ_TIMEOUT_MS).unref()
  }

  /** Removes the folder. */
  async close(): Promise<void> {
    if (this.#folder !== null) await rm(this.#folder, { recursive: true, force: true })
  }
}

/** Writes pixels into the new file `into`; returns them unchanged if it cannot be written. */
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
 * Fills `row` from a file of pixels and removes the file.
 * @throws Error if the file is missing or too short
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
