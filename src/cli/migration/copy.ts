/**
 * Makes a target equal to a source: copies items that differ and removes items that the source no
 * longer has. The state is the two collections alone, so an interrupted run resumes.
 */
import type { ListedItem } from '../../collection/collection.js'
import type { MigrationMark } from './mark.js'
import type { Source, Target } from './sides.js'

/** Items in memory at once, with their images. */
const GROUP = 64
/** Bounds for full passes and for passes over changes: writes to the source may never stop. */
const MAX_FULL_PASSES = 5
const MAX_CHANGE_PASSES = 20

export interface Copied {
  copied: number
  removed: number
  /** Items of the target written by other clients; they are not changed. */
  foreign: ReadonlySet<string>
  /** Whether the last full pass found no more differences than there were changes during it. */
  isLevel: boolean
}

/** @param onSeen - called with the number of further items handled by the first pass */
export async function copy(
  source: Source,
  target: Target,
  mark: MigrationMark,
  onSeen: (items: number) => void,
): Promise<Copied> {
  const pass = new CopyPass(source, target, mark)
  let isLevel = false
  for (let full = 0; full < MAX_FULL_PASSES && !isLevel; full += 1) {
    const { position } = source
    let differences = await pass.full(full === 0 ? onSeen : () => undefined)
    isLevel = differences === 0 || (full > 0 && differences <= source.position - position)
    for (let change = 0; change < MAX_CHANGE_PASSES && differences > 0; change += 1)
      differences = await pass.changes()
  }
  const { copied, removed, foreign } = pass
  return { copied, removed, foreign, isLevel }
}

class CopyPass {
  copied = 0
  removed = 0
  readonly foreign = new Set<string>()
  readonly #source: Source
  readonly #target: Target
  readonly #mark: MigrationMark
  /** Items of the target by id; `size` of the image in bytes. */
  #known = new Map<string, { addedAt: string; size: number }>()

  constructor(source: Source, target: Target, mark: MigrationMark) {
    this.#source = source
    this.#target = target
    this.#mark = mark
  }

  /** Compares all items. @returns the number of copied and removed ones */
  async full(onSeen: (items: number) => void): Promise<number> {
    this.#known = new Map()
    for await (const page of this.#target.pages()) for (const item of page) this.#know(item)
    return this.#pass(true, onSeen)
  }

  /** Handles changes since the last pass. @returns the number of copied and removed items */
  changes(): Promise<number> {
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

  /** Whether the target lacks the item or has it from this migration. */
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
