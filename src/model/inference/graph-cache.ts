/**
 * Graphs as the runtime has optimised them for the processor of this machine, their weights in
 * files that are mapped: the processes share them in memory, and a start takes a fraction of the
 * time. They are made of a verified bundle when there are none, and may be removed at any time.
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

/** Written last: the bytes of every file. */
const COMPLETE = 'complete.json'
const MEASURED = 'measured.json'
/** Two bundles may be in use, one that serves and one that stands by. */
const MAX_CACHED = 2

export class GraphCache<Measured> {
  readonly #root: string
  readonly #folder: string

  /**
   * @param root - holds the graphs of several bundles
   * @param fingerprint - of the bundle
   * @param runtime - its version: another one optimises otherwise
   */
  constructor(root: string, fingerprint: string, runtime: string) {
    this.#root = root
    this.#folder = join(root, `${fingerprint}-${digest([runtime, ...processor()]).slice(0, 16)}`)
  }

  fileOf(graph: GraphName): string {
    return join(this.#folder, `${graph}.onnx`)
  }

  /** Whether all are there, as they were written. */
  async isComplete(): Promise<boolean> {
    try {
      const sizes = JSON.parse(await readFile(join(this.#folder, COMPLETE), 'utf8')) as Record<
        string,
        number
      >
      const found = await Promise.all(
        Object.keys(sizes).map(async (name) => (await stat(join(this.#folder, name))).size),
      )
      const now = new Date()
      await utimes(this.#folder, now, now).catch(() => undefined)
      return Object.values(sizes).every((size, at) => size === found[at])
    } catch {
      return false
    }
  }

  /**
   * Has them written into a folder that takes its place when it is whole.
   * @throws what `write` throws; Error where the disk is full or cannot be written to. Nothing is
   *   left then
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

  /** What was measured with these graphs on this machine; null where nothing was. */
  async measured(): Promise<Measured | null> {
    return readFile(join(this.#folder, MEASURED), 'utf8').then(
      (text) => JSON.parse(text) as Measured,
      () => null,
    )
  }

  /** Nothing is lost where it cannot be kept. */
  async saveMeasured(measured: Measured): Promise<void> {
    await writeFile(join(this.#folder, MEASURED), JSON.stringify(measured)).catch(() => undefined)
  }

  /** Those of bundles and machines that were, and what killed processes left. */
  async #removeOthers(): Promise<void> {
    const folders = (await readdir(this.#root)).map((name) => join(this.#root, name))
    const used = await Promise.all(
      folders.map(async (folder) => ({ folder, at: (await stat(folder)).mtimeMs })),
    )
    const old = used.sort((a, b) => b.at - a.at).slice(MAX_CACHED)
    await Promise.all(old.map(({ folder }) => rm(folder, { recursive: true, force: true })))
  }
}

/** The runtime chooses kernels and the layout of weights by what the processor can do. */
function processor(): string[] {
  const [one] = cpus()
  return [
    arch(),
    one?.model ?? '',
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
