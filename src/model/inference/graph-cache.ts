/**
 * Graphs optimised by the runtime for the processor of this machine, with their weights in mapped
 * files. Processes share the weights in memory, and a start takes a fraction of the time. The cache
 * is built from a verified bundle and may be removed at any time; a damaged one is built again.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, utimes } from 'node:fs/promises'
import { arch, cpus } from 'node:os'
import { join } from 'node:path'
import { flush, replaceFile, writeFlushed } from '../../files/flush.js'
import { nameWithProcess, removeLeftFolders } from '../../files/left-folders.js'
import { sha256OfFile } from '../../files/sha256.js'
import type { GraphName } from '../onnx/graph-inputs.js'
import { CrashMarks, noteMadeAgain } from './crash-marks.js'

/** Size and digest of every file. */
type Files = Record<string, { bytes: number; sha256: string }>

/** Holds `Files`; written last. */
const COMPLETE = 'complete.json'
const MEASURED = 'measured.json'
/** Begins the name of a folder that is being filled; earlier versions gave no process. */
const UNFINISHED = 'new-'
/** Two bundles may be in use, one that serves and one that is being prepared. */
const MAX_CACHED = 2

export class GraphCache<Measured> {
  readonly folder: string
  readonly marks: CrashMarks
  readonly #root: string

  /**
   * @param root - folder with the graphs of several bundles
   * @param fingerprint - of the bundle
   * @param runtime - version of the runtime, which determines the optimisations
   * @param service - a name of this run of the service
   */
  constructor(root: string, fingerprint: string, runtime: string, service: string) {
    this.#root = root
    this.folder = join(root, `${fingerprint}-${digest([runtime, ...processor()]).slice(0, 16)}`)
    this.marks = new CrashMarks(this.folder, service)
  }

  fileOf(graph: GraphName): string {
    return join(this.folder, `${graph}.onnx`)
  }

  /**
   * Whether all files are as they were written.
   *
   * @param sizesOnly - where another process of this start has compared the digests
   */
  async isComplete(sizesOnly = false): Promise<boolean> {
    try {
      if (!sizesOnly) await removeLeftFolders(this.#root, UNFINISHED)
      const listed = await readFile(join(this.folder, COMPLETE), 'utf8')
      const files = JSON.parse(listed) as Files
      const names = Object.keys(files)
      if (names.length === 0) return false
      if (sizesOnly) {
        for (const name of names)
          if ((await stat(join(this.folder, name))).size !== files[name]?.bytes) return false
      } else if (listed !== JSON.stringify(await filesOf(this.folder, names))) return false
      const now = new Date()
      await utimes(this.folder, now, now).catch(() => undefined)
      return true
    } catch {
      return false
    }
  }

  /**
   * Fills the cache through a temporary folder, which is renamed when it is complete.
   * @param isAgain - whether a process ended with these graphs
   * @throws what `write` throws; Error if the disk is full or read-only. The temporary folder is
   *   removed then
   */
  async make(
    write: (fileOf: (graph: GraphName) => string) => Promise<void>,
    isAgain = false,
  ): Promise<void> {
    await mkdir(this.#root, { recursive: true })
    const folder = await mkdtemp(join(this.#root, nameWithProcess(UNFINISHED)))
    try {
      await write((graph) => join(folder, `${graph}.onnx`))
      const names = await readdir(folder)
      for (const name of names) await flush(join(folder, name))
      await writeFlushed(join(folder, COMPLETE), JSON.stringify(await filesOf(folder, names)))
      if (isAgain) await noteMadeAgain(folder)
      await flush(folder)
      await rm(this.folder, { recursive: true, force: true })
      await rename(folder, this.folder)
      await flush(this.#root)
    } catch (error) {
      await rm(folder, { recursive: true, force: true })
      throw error
    }
    await this.#removeOthers().catch(() => undefined)
  }

  /** The saved measurement of these graphs on this machine; null if there is none, or damaged. */
  async measured(): Promise<Measured | null> {
    try {
      const text = await readFile(join(this.folder, MEASURED), 'utf8')
      const { measured, sha256 } = JSON.parse(text) as { measured: Measured; sha256: string }
      return digest([measured]) === sha256 ? measured : null
    } catch {
      return null
    }
  }

  /** Ignores a failure: the next start measures again. */
  async saveMeasured(measured: Measured): Promise<void> {
    const text = JSON.stringify({ measured, sha256: digest([measured]) })
    await replaceFile(join(this.folder, MEASURED), text).catch(() => undefined)
  }

  /** Removes caches of earlier bundles and machines. */
  async #removeOthers(): Promise<void> {
    const names = (await readdir(this.#root)).filter((name) => !name.startsWith(UNFINISHED))
    const folders = names.map((name) => join(this.#root, name))
    const used = await Promise.all(
      folders.map(async (folder) => ({ folder, at: (await stat(folder)).mtimeMs })),
    )
    const old = used.sort((a, b) => b.at - a.at).slice(MAX_CACHED)
    await Promise.all(old.map(({ folder }) => rm(folder, { recursive: true, force: true })))
  }
}

async function filesOf(folder: string, names: readonly string[]): Promise<Files> {
  const files: Files = {}
  for (const name of names) files[name] = await sha256OfFile(join(folder, name))
  return files
}

/** Identifies the processor; its features determine kernels and the layout of weights. */
function processor(): string[] {
  const [cpu] = cpus()
  return [
    arch(),
    cpu?.model ?? '',
    /^(?:flags|Features)\s*:.*$/m.exec(textOf('/proc/cpuinfo'))?.[0] ?? '',
  ]
}

function digest(parts: readonly unknown[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex')
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
