/**
 * Graphs optimised by the runtime for the processor of this machine, with their weights in mapped
 * files. Processes share the weights in memory, and a start takes a fraction of the time. The cache
 * is built from a verified bundle and may be removed at any time.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import {
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { arch, cpus } from 'node:os'
import { join } from 'node:path'
import type { GraphName } from '../onnx/graph-inputs.js'

/** The size of every file; written last. */
const COMPLETE = 'complete.json'
const MEASURED = 'measured.json'
/** Two bundles may be in use, one that serves and one that is being prepared. */
const MAX_CACHED = 2

export class GraphCache<Measured> {
  readonly #root: string
  readonly #folder: string

  /**
   * @param root - folder with the graphs of several bundles
   * @param fingerprint - of the bundle
   * @param runtime - version of the runtime, which determines the optimisations
   */
  constructor(root: string, fingerprint: string, runtime: string) {
    this.#root = root
    this.#folder = join(root, `${fingerprint}-${digest([runtime, ...processor()]).slice(0, 16)}`)
  }

  fileOf(graph: GraphName): string {
    return join(this.#folder, `${graph}.onnx`)
  }

  /** Whether all files are present with the sizes that were written. */
  async isComplete(): Promise<boolean> {
    try {
      const sizes = JSON.parse(await readFile(join(this.#folder, COMPLETE), 'utf8')) as Record<
        string,
        number
      >
      const actual = await Promise.all(
        Object.keys(sizes).map(async (name) => (await stat(join(this.#folder, name))).size),
      )
      const now = new Date()
      await utimes(this.#folder, now, now).catch(() => undefined)
      return Object.values(sizes).every((size, at) => size === actual[at])
    } catch {
      return false
    }
  }

  /**
   * Fills the cache through a temporary folder, which is renamed when it is complete.
   * @throws what `write` throws; Error if the disk is full or read-only. The temporary folder is
   *   removed then
   */
  async make(write: (fileOf: (graph: GraphName) => string) => Promise<void>): Promise<void> {
    await mkdir(this.#root, { recursive: true })
    const folder = await mkdtemp(join(this.#root, 'new-'))
    try {
      await write((graph) => join(folder, `${graph}.onnx`))
      const names = await readdir(folder)
      const sizes = await Promise.all(
        names.map(async (name) => [name, (await stat(join(folder, name))).size]),
      )
      await writeFile(join(folder, COMPLETE), JSON.stringify(Object.fromEntries(sizes)))
      await rm(this.#folder, { recursive: true, force: true })
      await rename(folder, this.#folder)
    } catch (error) {
      await rm(folder, { recursive: true, force: true })
      throw error
    }
    await this.#removeOthers().catch(() => undefined)
  }

  /** The saved measurement of these graphs on this machine; null if there is none. */
  async measured(): Promise<Measured | null> {
    return readFile(join(this.#folder, MEASURED), 'utf8').then(
      (text) => JSON.parse(text) as Measured,
      () => null,
    )
  }

  /** Ignores a failure: the next start measures again. */
  async saveMeasured(measured: Measured): Promise<void> {
    await writeFile(join(this.#folder, MEASURED), JSON.stringify(measured)).catch(() => undefined)
  }

  /** Removes caches of earlier bundles and machines, and folders of killed processes. */
  async #removeOthers(): Promise<void> {
    const folders = (await readdir(this.#root)).map((name) => join(this.#root, name))
    const used = await Promise.all(
      folders.map(async (folder) => ({ folder, at: (await stat(folder)).mtimeMs })),
    )
    const old = used.sort((a, b) => b.at - a.at).slice(MAX_CACHED)
    await Promise.all(old.map(({ folder }) => rm(folder, { recursive: true, force: true })))
  }
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

function digest(parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex')
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
