/** The two bundles of a store, as its stamp names them. */
import type { Environment } from './environment.js'
import type { Bundles, ItemStore, NamedBundle } from './item-store.js'

export class LmdbBundles implements Bundles {
  readonly view: (fingerprint: string) => ItemStore
  readonly #environment: Environment

  constructor(environment: Environment, view: (fingerprint: string) => ItemStore) {
    this.#environment = environment
    this.view = view
    // Opened here: a table cannot be opened inside a change.
    void environment.stampedEncodings
  }

  get serving(): NamedBundle {
    return this.#environment.stamp.serving
  }

  get next(): NamedBundle | null {
    return this.#environment.stamp.standby
  }

  async begin(next: NamedBundle): Promise<void> {
    this.#environment.encodings(next.fingerprint)
    await this.#environment.change(() => {
      const { stamp } = this.#environment
      if (stamp.standby !== null) throw new Error('another bundle is being prepared already')
      if (stamp.serving.fingerprint === next.fingerprint)
        throw new Error('the bundle serves already')
      this.#environment.stamp = { ...stamp, standby: next }
      this.#environment.nextPosition = 0
    })
  }

  async end(): Promise<void> {
    await this.#environment.change(() => {
      const { stamp } = this.#environment
      if (stamp.standby === null) return
      this.#environment.encodings(stamp.standby.fingerprint).clearSync()
      this.#environment.stamp = { ...stamp, standby: null }
      this.#environment.nextPosition = undefined
    })
  }

  async promote(): Promise<void> {
    await this.#environment.change(() => {
      const { stamp, position, nextPosition, changes } = this.#environment
      if (stamp.standby === null) throw new Error('no bundle is being prepared')
      const lags = changes.getKeysCount({ start: nextPosition + 1, limit: 1 }) > 0
      if (lags) throw new Error('the next bundle lags behind the items')
      this.#environment.stamp = { ...stamp, serving: stamp.standby, standby: stamp.serving }
      this.#environment.nextPosition = position
    })
  }
}
