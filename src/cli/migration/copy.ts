/**
 * Makes the items of one collection those of another: whatever differs goes over, and what the
 * source no longer has goes. It is told by the two collections alone, so what a run that was ended
 * had done is done.
 */
import type { ListedItem } from '../../collection/collection.js'
import type { MigrationMark } from './mark.js'
import type { Source, Target } from './sides.js'

/** Items of a group: they are in memory together, images included. */
const GROUP = 64
/**
 * Looks at all items until the two are level, and walks after changes in between: writes may never
 * cease.
 */
const MOST_LOOKS = 5
const MOST_WALKS = 20

export interface Copied {
  copied: number
  removed: number
  /** Items that somebody else has written to the target since: they were left alone. */
  foreign: ReadonlySet<string>
  /**
   * Whether the last look at all items of both sides found no more differences than there were
   * changes meanwhile.
   */
  isLevel: boolean
}

/** @param onSeen - called with how many more items the first look has dealt with */
export async function copy(
  source: Source,
  target: Target,
  mark: MigrationMark,
  onSeen: (items: number) => void,
): Promise<Copied> {
  const work = new Copying(source, target, mark)
  let isLevel = false
  for (let look = 0; look < MOST_LOOKS && !isLevel; look += 1) {
    const { position } = source
    let differences = await work.look(look === 0 ? onSeen : () => undefined)
    isLevel = differences === 0 || (look > 0 && differences <= source.position - position)
    for (let walk = 0; walk < MOST_WALKS && differences > 0; walk += 1)
      differences = await work.follow()
  }
  const { copied, removed, foreign } = work
  return { copied, removed, foreign, isLevel }
}

class Copying {
  copied = 0
  removed = 0
  readonly foreign = new Set<string>()
  readonly #source: Source
  readonly #target: Target
  readonly #mark: MigrationMark
  /** What the target has, by id: when it was added, and how large its image is. */
  #known = new Map<string, { addedAt: string; size: number }>()

  constructor(source: Source, target: Target, mark: MigrationMark) {
    this.#source = source
    this.#target = target
    this.#mark = mark
  }

  /** Compares all items of both sides. @returns how many had to be copied or removed */
  async look(onSeen: (items: number) => void): Promise<number> {
    this.#known = new Map()
    for await (const page of this.#target.pages()) for (const item of page) this.#know(item)
    return this.#pass(true, onSeen)
  }

  /** Copies and removes what has changed since. @returns how many */
  follow(): Promise<number> {
    return this.#pass(false, () => undefined)
  }

  async #pass(all: boolean, onSeen: (items: number) => void): Promise<number> {
    const before = this.copied + this.removed
    for await (const page of this.#source.walk(all)) {
      const wanted = page.filter((item) => !this.#isThere(item)).map(({ id }) => id)
      onSeen(page.length - wanted.length)
      for (let at = 0; at < wanted.length; at += GROUP) {
        const ids = wanted.slice(at, at + GROUP)
        await this.#copy(ids)
        onSeen(ids.length)
      }
    }
    await this.#remove(this.#source.gone(this.#known.keys()))
    return this.copied + this.removed - before
  }

  async #copy(ids: readonly string[]): Promise<void> {
    const items = await this.#source.read(ids.filter((id) => this.#isOurs(id)))
    if (items.length === 0) return
    await this.#mark.cover(items.flatMap(({ addedAt }) => addedAt ?? []))
    await this.#target.put(items)
    for (const { id, addedAt = '', image } of items)
      this.#known.set(id, { addedAt, size: image.bytes.byteLength })
    this.copied += items.length
  }

  async #remove(gone: readonly string[]): Promise<void> {
    const ids = gone.filter((id) => this.#isOurs(id))
    for (let at = 0; at < ids.length; at += GROUP)
      await this.#target.remove(ids.slice(at, at + GROUP))
    for (const id of ids) this.#known.delete(id)
    this.removed += ids.length
  }

  /**
   * Whether the target has no such item, or one that went over; remembers those that somebody else
   * wrote.
   */
  #isOurs(id: string): boolean {
    const known = this.#known.get(id)
    if (known === undefined || this.#mark.covers(known.addedAt)) return true
    this.foreign.add(id)
    return false
  }

  #isThere({ id, addedAt, image }: ListedItem): boolean {
    const known = this.#known.get(id)
    return known?.addedAt === addedAt && known.size === image.size
  }

  #know({ id, addedAt, image }: ListedItem): void {
    this.#known.set(id, { addedAt, size: image.size })
  }
}
