/**
 * Verifies the pages of an LMDB file before the library maps it: LMDB trusts its file, so a cut or
 * overwritten one would end the process (SIGBUS, SIGSEGV).
 *
 * The layout is that of liblmdb with data version 2, as lmdb-js has it (mdb.c):
 *
 *   page   0 uint64 number · 8 uint64 transaction · 18 uint16 flags · 24 content
 *          · 20 uint16 lower, uint16 upper, or uint32 pages of a large value
 *   meta   24 uint32 magic · 28 uint32 version · 48 free list · 96 main tree
 *          · 144 uint64 last page · 152 uint64 transaction
 *   tree   0 uint32 page size · 6 uint16 depth · 8, 16, 24 uint64 branch, leaf and large pages
 *          · 32 uint64 entries · 40 uint64 root
 *   node   0 uint32 size, or with the flags a page · 4 uint16 flags · 6 uint16 key size
 *          · 8 key, value
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'

/** The file is not the one that was written; `message` ends a sentence. */
export class DamagedStoreError extends Error {
  override readonly name = 'DamagedStoreError'
}

const MAGIC = 0xbeefc0de
const VERSION = 2
const HEADER_BYTES = 24
const META_BYTES = 168
const TREE_BYTES = 48
const NODE_BYTES = 8
const BRANCH = 1
const LEAF = 2
const OVERFLOW = 4
const META = 8
const KINDS = BRANCH | LEAF | OVERFLOW | META
const BIG_VALUE = 1
const SUBTREE = 2
const MAX_DEPTH = 32
const NO_PAGE = 2n ** 64n - 1n
/** Larger files are not walked unless asked: their pages would be read from the disk at a start. */
const WALKED_BYTES = 2 ** 30

interface Tree {
  depth: number
  branchPages: bigint
  leafPages: bigint
  largePages: bigint
  entries: bigint
  root: bigint
}

/**
 * @param file - a data file of LMDB, closed
 * @param whole - whether to walk the trees of a file of more than 1 GiB too
 * @throws DamagedStoreError; the error of the file system
 */
export function verifyPages(file: string, whole = false): void {
  const descriptor = openSync(file, 'r')
  try {
    const { size } = fstatSync(descriptor)
    new PageReader(descriptor, size).verify(whole || size <= WALKED_BYTES)
  } finally {
    closeSync(descriptor)
  }
}

class PageReader {
  readonly #descriptor: number
  readonly #size: number
  #pageSize = 0
  #lastPage = 0
  /** One bit for each page that a tree or the free list has. */
  #seen = new Uint8Array(0)

  constructor(descriptor: number, size: number) {
    this.#descriptor = descriptor
    this.#size = size
  }

  verify(isWalked: boolean): void {
    const meta = this.#newestMeta()
    const lastPage = Number(meta.readBigUInt64LE(144))
    const [free, main] = [treeAt(meta, 48), treeAt(meta, 96)]
    const expected = (lastPage + 1) * this.#pageSize
    // LMDB writes every page up to the last one, except free ones at the end.
    if (lastPage < 1 || !Number.isSafeInteger(expected) || expected > this.#size + 2 ** 30)
      throw new DamagedStoreError(
        `it has ${this.#size} bytes and names page ${lastPage} as its last`,
      )
    this.#lastPage = lastPage
    this.#seen = new Uint8Array(Math.ceil((lastPage + 1) / 8))
    if (!isWalked) {
      for (const { root } of [free, main]) if (root !== NO_PAGE) this.#page(root)
      if (expected > this.#size)
        throw new DamagedStoreError(
          `it has ${this.#size} bytes instead of ${expected}: it is cut off`,
        )
      return
    }
    this.#walk(main, 'main', true)
    this.#walk(free, 'free list', false)
  }

  /** The meta page of the last transaction; transactions write the two in turn. */
  #newestMeta(): Buffer {
    const first = this.#read(0, META_BYTES)
    this.#pageSize = first.readUInt32LE(48)
    const isPowerOfTwo = (this.#pageSize & (this.#pageSize - 1)) === 0
    if (!isPowerOfTwo || this.#pageSize < 512 || this.#pageSize > 65_536)
      throw new DamagedStoreError('its first page is not that of a store')
    const metas = [first, this.#read(this.#pageSize, META_BYTES)]
    const transactions = metas.map((meta, at) => {
      const isMeta =
        Number(meta.readBigUInt64LE(0)) === at &&
        meta.readUInt16LE(18) === META &&
        meta.readUInt32LE(24) === MAGIC &&
        meta.readUInt32LE(28) === VERSION &&
        meta.readUInt32LE(48) === this.#pageSize
      if (!isMeta) throw new DamagedStoreError(`its page ${at} is not that of a store`)
      return meta.readBigUInt64LE(152)
    }) as [bigint, bigint]
    const [even, odd] = transactions
    const isInTurn = even % 2n === 0n && (odd % 2n === 1n || odd === 0n)
    const distance = even > odd ? even - odd : odd - even
    // A copy has 0 in the first one.
    if (!isInTurn || (distance > 1n && even !== 0n))
      throw new DamagedStoreError('its first two pages are not of two transactions in a row')
    return (even >= odd ? metas[0] : metas[1]) as Buffer
  }

  #walk(expected: Tree, name: string, hasSubtrees: boolean): void {
    const found = { branchPages: 0n, leafPages: 0n, largePages: 0n, entries: 0n }
    const subtrees: [string, Tree][] = []
    let before: Buffer | null = null

    const visitLeaf = (page: Buffer, at: number): void => {
      const { flags, key, value, size } = this.#leafNode(page, at)
      if (name !== 'free list') {
        if (before !== null && Buffer.compare(before, key) >= 0)
          throw new DamagedStoreError(`keys of the table "${name}" are out of order`)
        before = Buffer.from(key)
      }
      found.entries += 1n
      let content = value
      if ((flags & BIG_VALUE) !== 0) {
        const first = value.readBigUInt64LE(0)
        const pages = Math.ceil((HEADER_BYTES + size) / this.#pageSize)
        this.#large(first, pages)
        found.largePages += BigInt(pages)
        if (name === 'free list')
          content = this.#read(Number(first) * this.#pageSize + HEADER_BYTES, size)
      }
      if (name === 'free list') this.#markFree(content)
      if ((flags & SUBTREE) !== 0) {
        if (!hasSubtrees || size !== TREE_BYTES)
          throw new DamagedStoreError(`the table "${name}" has an entry that is no table`)
        subtrees.push([key.toString('latin1').replaceAll('\0', ''), treeAt(value, 0)])
      } else if (hasSubtrees) throw new DamagedStoreError('an entry of its main table is no table')
    }

    const visit = (number: bigint, depth: number): void => {
      if (depth > MAX_DEPTH) throw new DamagedStoreError(`the table "${name}" is too deep`)
      const page = this.#page(number)
      this.#mark(Number(number))
      const isLeaf = depth === expected.depth
      if ((page.readUInt16LE(18) & KINDS) !== (isLeaf ? LEAF : BRANCH))
        throw new DamagedStoreError(`page ${number} of the table "${name}" has another kind`)
      found[isLeaf ? 'leafPages' : 'branchPages'] += 1n
      for (const at of nodesOf(page, number)) {
        if (isLeaf) visitLeaf(page, at)
        else {
          const child = page.readUInt32LE(at) + page.readUInt16LE(at + 4) * 2 ** 32
          visit(BigInt(child), depth + 1)
        }
      }
    }

    if (expected.root !== NO_PAGE) visit(expected.root, 1)
    for (const count of ['branchPages', 'leafPages', 'largePages', 'entries'] as const) {
      if (found[count] === expected[count]) continue
      throw new DamagedStoreError(
        `the table "${name}" has ${found[count]} ${WORDS[count]} instead of ${expected[count]}`,
      )
    }
    for (const [subtree, tree] of subtrees) this.#walk(tree, subtree, false)
  }

  #leafNode(page: Buffer, at: number): { flags: number; key: Buffer; value: Buffer; size: number } {
    const size = page.readUInt32LE(at)
    const flags = page.readUInt16LE(at + 4)
    const keyEnd = at + NODE_BYTES + page.readUInt16LE(at + 6)
    const valueEnd = keyEnd + ((flags & BIG_VALUE) !== 0 ? 8 : size)
    if (flags > (BIG_VALUE | SUBTREE) || valueEnd > page.length)
      throw new DamagedStoreError(`a node of page ${page.readBigUInt64LE(0)} leaves its page`)
    const key = page.subarray(at + NODE_BYTES, keyEnd)
    return { flags, key, value: page.subarray(keyEnd, valueEnd), size }
  }

  /** Pages of a value that does not fit into its leaf. */
  #large(number: bigint, pages: number): void {
    const first = Number(number)
    if (first < 2 || first + pages - 1 > this.#lastPage)
      throw new DamagedStoreError(`a value names page ${number}, and ${this.#lastPage} is the last`)
    const header = this.#read(first * this.#pageSize, HEADER_BYTES)
    const isLarge =
      header.readBigUInt64LE(0) === number &&
      (header.readUInt16LE(18) & KINDS) === OVERFLOW &&
      header.readUInt32LE(20) === pages
    if (!isLarge) throw new DamagedStoreError(`page ${number} is not that of a large value`)
    if ((first + pages) * this.#pageSize > this.#size)
      throw new DamagedStoreError(
        `it has ${this.#size} bytes: page ${first + pages - 1} is missing`,
      )
    for (let page = first; page < first + pages; page += 1) this.#mark(page)
  }

  /** Free pages: a count, then numbers; -n before a number means n pages from there. */
  #markFree(content: Buffer): void {
    const count = Number(content.readBigInt64LE(0))
    if (count < 0 || (count + 1) * 8 > content.length)
      throw new DamagedStoreError('its list of free pages is cut off')
    for (let at = 1; at <= count; at += 1) {
      const value = Number(content.readBigInt64LE(at * 8))
      if (value === 0) continue
      const pages = value < 0 ? -value : 1
      const first = value < 0 ? Number(content.readBigInt64LE((at += 1) * 8)) : value
      if (at > count || first < 2 || first + pages - 1 > this.#lastPage)
        throw new DamagedStoreError('its list of free pages names pages that it does not have')
      for (let page = first; page < first + pages; page += 1) this.#mark(page)
    }
  }

  #mark(page: number): void {
    const [byte, bit] = [page >> 3, 1 << (page & 7)]
    if (((this.#seen[byte] ?? 0) & bit) !== 0)
      throw new DamagedStoreError(`page ${page} belongs to two places`)
    this.#seen[byte] = (this.#seen[byte] ?? 0) | bit
  }

  /** A page of a tree, with its number. */
  #page(number: bigint): Buffer {
    if (number < 2n || number > BigInt(this.#lastPage))
      throw new DamagedStoreError(`a table names page ${number}, and ${this.#lastPage} is the last`)
    const page = this.#read(Number(number) * this.#pageSize, this.#pageSize)
    if (page.readBigUInt64LE(0) !== number)
      throw new DamagedStoreError(`page ${number} has been overwritten`)
    return page
  }

  #read(position: number, bytes: number): Buffer {
    const buffer = Buffer.allocUnsafe(bytes)
    const read = readSync(this.#descriptor, buffer, 0, bytes, position)
    if (read < bytes)
      throw new DamagedStoreError(`it has ${this.#size} bytes: byte ${position + read} is missing`)
    return buffer
  }
}

const WORDS = {
  branchPages: 'branch pages',
  leafPages: 'leaf pages',
  largePages: 'pages of large values',
  entries: 'entries',
}

function treeAt(bytes: Buffer, at: number): Tree {
  const [branchPages, leafPages, largePages, entries, root] = [8, 16, 24, 32, 40].map((offset) =>
    bytes.readBigUInt64LE(at + offset),
  ) as [bigint, bigint, bigint, bigint, bigint]
  return { depth: bytes.readUInt16LE(at + 6), branchPages, leafPages, largePages, entries, root }
}

/** Offsets of the nodes of a branch or leaf page. */
function nodesOf(page: Buffer, number: bigint): number[] {
  const [lower, upper] = [page.readUInt16LE(20), page.readUInt16LE(22)]
  // Offsets count from the end of the header.
  const count = lower >> 1
  const isSane =
    lower % 2 === 0 && lower <= upper && HEADER_BYTES + upper <= page.length && count > 0
  const nodes = isSane
    ? Array.from(
        { length: count },
        (_, at) => HEADER_BYTES + page.readUInt16LE(HEADER_BYTES + at * 2),
      )
    : []
  const isInside = (at: number): boolean =>
    at >= HEADER_BYTES + upper &&
    at + NODE_BYTES <= page.length &&
    at + NODE_BYTES + page.readUInt16LE(at + 6) <= page.length
  if (!isSane || !nodes.every(isInside))
    throw new DamagedStoreError(`page ${number} has been overwritten`)
  return nodes
}
