/** The command's side of the process that reads metadata. */
import { readFile } from 'node:fs/promises'
import { setTimeout } from 'node:timers/promises'
import { SerialQueue } from '../../async/serial-queue.js'
import { WorkerProcess } from '../../worker/worker-process.js'
import type { Sidecar } from './image-files.js'
import type { Metadata } from './metadata.js'
import type { Commands } from './metadata-worker.js'

/** A process that takes longer is killed; a file of 20 MB takes 0.1 s. */
const LIMIT_MS = 5000
const MAX_SIDECAR_BYTES = 1 << 20
const POLL_MS = 50

export class MetadataReader {
  readonly #process: WorkerProcess<Commands>
  /** One file at a time, so that a process that dies costs the metadata of one file. */
  readonly #queue = new SerialQueue()

  private constructor(process: WorkerProcess<Commands>) {
    this.#process = process
  }

  static async open(): Promise<MetadataReader> {
    const process = await WorkerProcess.start<Commands>({
      name: 'metadata',
      module: new URL('./metadata-worker.js', import.meta.url),
      code: 'internal_error',
      subject: 'The reader of metadata',
    })
    return new MetadataReader(process)
  }

  /**
   * What a file and its sidecar say. The caption of the sidecar goes first.
   *
   * @param remark - called for a sidecar or metadata that cannot be read; the rest is returned
   */
  async metadata(
    bytes: Uint8Array,
    sidecar: Sidecar | undefined,
    remark: (reason: string) => void,
  ): Promise<Metadata> {
    const embedded = await this.#call('embedded', bytes).catch((error: Error) => {
      // Of files without metadata: the service tells what is no image.
      if (!/^(Invalid image format|No Exif data)/.test(error.message))
        remark(`its metadata cannot be read: ${error.message}`)
      return {}
    })
    if (sidecar === undefined) return embedded
    try {
      const { kind, size, file } = sidecar
      if (size > MAX_SIDECAR_BYTES)
        throw new Error(`it has ${size} bytes; expected at most ${MAX_SIDECAR_BYTES}`)
      const caption = await this.#call('caption', { kind, bytes: await readFile(file) })
      return caption === null ? embedded : { ...embedded, caption }
    } catch (error) {
      remark(`its sidecar ${sidecar.name} cannot be read: ${(error as Error).message}`)
      return embedded
    }
  }

  close(): Promise<void> {
    return this.#process.close()
  }

  #call<Name extends keyof Commands>(
    name: Name,
    input: Commands[Name]['input'],
  ): Promise<Commands[Name]['output']> {
    return this.#queue.run(async () => {
      // After a crash the process is started again within a second.
      const until = Date.now() + LIMIT_MS
      while (!this.#process.ready && Date.now() < until) await setTimeout(POLL_MS)
      return this.#process.call(name, input, LIMIT_MS)
    })
  }
}
