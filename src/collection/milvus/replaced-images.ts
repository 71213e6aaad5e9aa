export interface ReplacedImagesOptions {
  /** How long an image is kept: longer than a write can be under way. */
  keepMs: number
  /** The image keys in the rows of these ids, after the last write of any service. */
  currentKeys: (ids: readonly string[]) => Promise<ReadonlyMap<string, string>>
  remove: (keys: readonly string[]) => Promise<void>
}

interface Replaced {
  id: string
  key: string
}

const BATCH = 128
/** Some 300 bytes each. Images beyond stay until `tandem images --remove`. */
const MAX_WAITING = 100_000
/** A slow image store delays the shutdown by this, plus one call. */
const END_MS = 5000

/**
 * Removes the images of replaced and removed items after a delay, and only if no row has their key
 * again: a write that timed out or was sent twice may land after its successor. The item is then
 * older than it should be, but complete.
 */
export class ReplacedImages {
  readonly #options: ReplacedImagesOptions
  /** Oldest first; `since` on the clock of performance.now(). */
  #waiting: (Replaced & { since: number })[] = []
  #timer: NodeJS.Timeout | undefined
  #removing = Promise.resolve()
  #hasEnded = false

  constructor(options: ReplacedImagesOptions) {
    this.#options = options
  }

  add(replaced: readonly Replaced[]): void {
    const since = performance.now()
    this.#waiting.push(...replaced.map(({ id, key }) => ({ id, key, since })))
    if (this.#waiting.length > MAX_WAITING) this.#waiting = this.#waiting.slice(-MAX_WAITING)
    this.#removeLater()
  }

  /** Removes those that wait, as far as possible within END_MS. */
  async end(): Promise<void> {
    this.#hasEnded = true
    clearTimeout(this.#timer)
    await this.#removing
    await this.#remove(this.#waiting, performance.now() + END_MS).catch(() => undefined)
  }

  #removeLater(): void {
    const [oldest] = this.#waiting
    if (oldest === undefined || this.#timer !== undefined || this.#hasEnded) return
    const due = oldest.since + this.#options.keepMs - performance.now()
    this.#timer = setTimeout(
      () => {
        this.#removing = this.#removeDue().finally(() => {
          this.#timer = undefined
          this.#removeLater()
        })
      },
      Math.max(0, due),
    )
    this.#timer.unref()
  }

  async #removeDue(): Promise<void> {
    const before = performance.now() - this.#options.keepMs
    const end = this.#waiting.findIndex(({ since }) => since > before)
    const due = this.#waiting.splice(0, end === -1 ? this.#waiting.length : end)
    // The keys are unknown while Milvus is unavailable: try again later.
    await this.#remove(due).catch(() => this.add(due))
  }

  async #remove(replaced: readonly Replaced[], until = Infinity): Promise<void> {
    for (let at = 0; at < replaced.length && performance.now() < until; at += BATCH) {
      const batch = replaced.slice(at, at + BATCH)
      const current = await this.#options.currentKeys([...new Set(batch.map(({ id }) => id))])
      await this.#options.remove(
        batch.filter(({ id, key }) => current.get(id) !== key).map(({ key }) => key),
      )
    }
  }
}
