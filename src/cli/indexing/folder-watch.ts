/** Tells when files of folders have changed. */
import { watch, type FSWatcher } from 'node:fs'

/** Changes are reported after this time without a further one, so that files are complete. */
const QUIET_MS = 1000
/** Where changes never stop. */
const MAX_DELAY_MS = 30_000

/**
 * Watches each folder by itself: a recursive watch takes one of the system's watches for each file
 * on Linux.
 */
export class FolderWatch {
  readonly #watchers = new Map<string, FSWatcher>()
  #firstChange: number | undefined
  #lastChange = 0
  #wake: () => void = () => undefined

  /**
   * Watches these folders, and no others. A new folder counts as a change, since files may have
   * come before it was watched.
   *
   * @throws Error if the system allows no more watches
   */
  follow(folders: readonly Buffer[]): void {
    const wanted = new Map(folders.map((folder) => [folder.toString('latin1'), folder]))
    for (const [key, watcher] of this.#watchers) {
      if (wanted.has(key)) continue
      watcher.close()
      this.#watchers.delete(key)
    }
    for (const [key, folder] of wanted) {
      if (this.#watchers.has(key)) continue
      try {
        const watcher = watch(folder, () => this.#change())
        watcher.on('error', () => {
          watcher.close()
          this.#watchers.delete(key)
          this.#change()
        })
        this.#watchers.set(key, watcher)
      } catch (error) {
        // It was removed meanwhile, which its parent tells.
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue
        throw error
      }
      this.#change()
    }
  }

  /** Resolves after changes since the last call, after `maxMs`, or when the signal aborts. */
  async changes(maxMs: number, signal: AbortSignal): Promise<void> {
    const begun = Date.now()
    const onAbort = (): void => this.#wake()
    signal.addEventListener('abort', onAbort)
    while (!signal.aborted) {
      const due =
        this.#firstChange === undefined
          ? begun + maxMs
          : Math.min(this.#lastChange + QUIET_MS, this.#firstChange + MAX_DELAY_MS)
      const left = due - Date.now()
      if (left <= 0) break
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    signal.removeEventListener('abort', onAbort)
    this.#firstChange = undefined
  }

  close(): void {
    for (const watcher of this.#watchers.values()) watcher.close()
    this.#watchers.clear()
  }

  #change(): void {
    this.#lastChange = Date.now()
    this.#firstChange ??= this.#lastChange
    this.#wake()
  }
}
