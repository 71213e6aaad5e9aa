/** The two bundles of a store: the stamp says which one serves and which one stands by. */
import type { Bundles, ItemStore, NamedBundle } from './item-store.js'
import type { Environment } from './environment.js'

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

  get standby(): NamedBundle | null {
    return this.#environment.stamp.standby
  }

  async begin(standby: NamedBundle): Promise<void> {
    this.#environment.encodings(standby.fingerprint)
    await this.#environment.change(() => {
      const { stamp } = this.#environment
      if (stamp.standby !== null) throw new Error('a bundle stands by already')
      if (stamp.serving.fingerprint === standby.fingerprint)
        throw new Error('the bundle serves already')
      this.#environment.setAbout('stamp', { ...stamp, standby })
      this.#environment.setAbout('followed', 0)
    })
  }

  async end(): Promise<void> {
    await this.#environment.change(() => {
      const { stamp } = this.#environment
      if (stamp.standby === null) return
      this.#environment.encodings(stamp.standby.fingerprint).clearSync()
      this.#environment.setAbout('stamp', { ...stamp, standby: null })
      this.#environment.setAbout('followed', undefined)
    })
  }

  async switch(): Promise<void> {
    await this.#environment.change(() => {
      const { stamp, position, followed, changes } = this.#environment
      if (stamp.standby === null) throw new Error('no bundle stands by')
      const isBehind = changes.getKeysCount({ start: followed + 1, limit: 1 }) > 0
      if (isBehind) throw new Error('the standby is not level with the items')
      this.#environment.setAbout('stamp', {
        ...stamp,
        serving: stamp.standby,
        standby: stamp.serving,
      })
      this.#environment.setAbout('followed', position)
    })
  }
}
