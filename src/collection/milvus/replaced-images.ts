/**
 * Images whose item names another one by now, or is gone. They are removed a while later, and only
 * where no row names them again: a write whose call timed out, or that was sent twice because its
 * connection was lost, may land after the one that replaced it. An item then is older than it
 * should be, but whole.
 */
export interface ReplacedImagesOptions {
  /** How long one is kept: longer than a write can be on its way. */
  keepMs: number
  /** The key that the row of each id names now, as the last write of any service left it. */
  named: (ids: readonly string[]) => Promise<ReadonlyMap<string, string>>
  remove: (keys: readonly string[]) => Promise<void>
}

interface Replaced {
  id: string
  key: string
}

const REMOVED_AT_ONCE = 128
/** Some 300 bytes each; what is beyond stays until `tandem images --remove`. */
const MOST_WAITING = 100_000
/**
 * No stop is held up for longer by a store of images that is slow or away, but for one call of it.
 */
const END_MS = 5000

export class ReplacedImages {
  readonly #options: ReplacedImagesOptions
  /** The oldest first; `since` on the clock of performance.now(). */
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
    if (this.#waiting.length > MOST_WAITING) this.#waiting = this.#waiting.slice(-MOST_WAITING)
    this.#removeLater()
  }

  /** Removes all that wait, as far as that can be done now: the service ends. */
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
    // While Milvus is away nobody knows what its rows name.
    await this.#remove(due).catch(() => this.add(due))
  }

  async #remove(replaced: readonly Replaced[], until = Infinity): Promise<void> {
    for (let at = 0; at < replaced.length && performance.now() < until; at += REMOVED_AT_ONCE) {
      const part = replaced.slice(at, at + REMOVED_AT_ONCE)
      const named = await this.#options.named([...new Set(part.map(({ id }) => id))])
      await this.#options.remove(
        part.filter(({ id, key }) => named.get(id) !== key).map(({ key }) => key),
      )
    }
  }
}
