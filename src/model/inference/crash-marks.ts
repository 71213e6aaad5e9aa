/**
 * Marks in a folder of cached graphs, which tell of graphs that crash their process though their
 * files are sound. A process leaves a mark while it loads them, and while it runs one for the first
 * time. The mark of a process that is gone tells that it ended there.
 */
import { readdirSync, rmSync, writeFileSync } from 'node:fs'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isAlive } from '../../files/left-folders.js'

/** Begins the name of a mark, before the service and the process. */
const MARK = 'loading-'
/** In graphs that were made again after a crash, until each of them has run. */
const MADE_AGAIN = 'made-again-after-crash'

export class CrashMarks {
  readonly #folder: string
  readonly #own: string
  readonly #sameService: string

  /** @param service - a name of this run of the service, in which ids of processes are unique */
  constructor(folder: string, service: string) {
    this.#folder = folder
    this.#sameService = `${MARK}${service}-`
    this.#own = `${this.#sameService}${process.pid}`
  }

  /** In how many of the last two versions of these graphs a process has ended: 0, 1 or 2. */
  async crashes(): Promise<0 | 1 | 2> {
    const names = await readdir(this.#folder).catch((): string[] => [])
    if (!names.some((name) => this.#isLeft(name))) return 0
    return names.includes(MADE_AGAIN) ? 2 : 1
  }

  /** Does the work with a mark in the folder, if it can be written. @throws what `work` throws */
  async during<Result>(work: () => Promise<Result>): Promise<Result> {
    const file = join(this.#folder, this.#own)
    ignoringFailure(() => writeFileSync(file, ''))
    try {
      return await work()
    } finally {
      ignoringFailure(() => rmSync(file, { force: true }))
    }
  }

  /** All graphs have run: forgets earlier crashes. */
  trust(): void {
    ignoringFailure(() => {
      for (const name of readdirSync(this.#folder))
        if (name === MADE_AGAIN || this.#isLeft(name))
          rmSync(join(this.#folder, name), { force: true })
    })
  }

  #isLeft(name: string): boolean {
    if (!name.startsWith(MARK)) return false
    // An own mark is of an earlier process with the same id.
    if (!name.startsWith(this.#sameService) || name === this.#own) return true
    return !isAlive(Number(name.slice(this.#sameService.length)))
  }
}

/** Notes in a folder that is being filled that its graphs crashed before. */
export async function noteMadeAgain(folder: string): Promise<void> {
  await writeFile(join(folder, MADE_AGAIN), '')
}

/** A folder that cannot be written has no marks, and its graphs are used. */
function ignoringFailure(work: () => void): void {
  try {
    work()
  } catch {
    // As above.
  }
}
