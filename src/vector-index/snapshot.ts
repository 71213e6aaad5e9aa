/**
 * The snapshot of an HNSW index: a graph file that only hnswlib reads, and beside it `hnsw.json`,
 * which says what it is.
 *
 * hnswlib writes in place and checks nothing, so a graph is written under a new name, flushed, and
 * then named by a sidecar that replaces the old one in one step. Whatever a crash leaves behind,
 * the sidecar that is found fits its graph.
 */
import { randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { flush, replaceFile } from '../files/flush.js'
import { sha256OfFile } from '../files/sha256.js'

/** 2: the sidecar names its item store. */
const FORMAT = 2
const SIDECAR = 'hnsw.json'
const ASIDE = `${SIDECAR}.new`
/**
 * Ids written, and about so many read, in one go: a sidecar may name millions, and requests go on
 * between.
 */
const SLICE = 4096
const CHUNK_BYTES = 128 * 1024
const OPENING = '"ids":['
const CLOSING = '\n]}\n'

export interface Sidecar {
  format: number
  fingerprint: string
  dim: number
  /** The identity of the item store that was indexed. */
  storeIdentity: string
  /** Of that item store, up to which the graph is complete. */
  position: number
  /** Label → id; null where the label is empty. */
  ids: readonly (string | null)[]
  graph: { file: string; sha256: string }
}

export type FoundSnapshot = { sidecar: Sidecar; file: string } | { discarded: string | null }

/** Thrown inside this file for a snapshot that cannot be used; the message becomes `discarded`. */
class Unusable extends Error {}

/** What a snapshot has to belong to. */
export type Origin = Pick<Sidecar, 'fingerprint' | 'dim' | 'storeIdentity'>

/** The snapshot in `folder` where it is whole and of this origin; otherwise why it is not used. */
export async function findSnapshot(folder: string, origin: Origin): Promise<FoundSnapshot> {
  const { fingerprint, dim, storeIdentity } = origin
  try {
    const sidecar = await readSidecar(folder)
    if (sidecar === null) return { discarded: null }
    if (sidecar.format !== FORMAT)
      throw new Unusable(`it has format ${sidecar.format}, not ${FORMAT}`)
    if (sidecar.fingerprint !== fingerprint) {
      throw new Unusable(
        `it belongs to a bundle of fingerprint ${sidecar.fingerprint}, not ${fingerprint}`,
      )
    }
    if (sidecar.dim !== dim)
      throw new Unusable(`its embeddings have ${sidecar.dim} values, not ${dim}`)
    if (sidecar.storeIdentity !== storeIdentity)
      throw new Unusable('it was made from another item store')
    const file = join(folder, sidecar.graph.file)
    if ((await digestOf(file)) !== sidecar.graph.sha256)
      throw new Unusable(`${sidecar.graph.file} is damaged`)
    return { sidecar, file }
  } catch (error) {
    if (!(error instanceof Unusable)) throw error
    return { discarded: `The snapshot in ${folder} is not used: ${error.message}.` }
  }
}

/** A name for the next graph that no sidecar names yet. */
export function newGraphFile(position: number): string {
  return `hnsw-${position}-${randomUUID().slice(0, 8)}.bin`
}

/** Makes a graph that is already flushed to the disk the one in use, then removes the others. */
export async function publishSnapshot(
  folder: string,
  sidecar: Omit<Sidecar, 'format'>,
): Promise<void> {
  await replaceFile(join(folder, SIDECAR), written({ format: FORMAT, ...sidecar }))
  await flush(folder)
  await removeAllBut(folder, sidecar.graph.file)
}

/**
 * Removes what a failed snapshot left, so that it takes no room on a disk that may be full. The
 * snapshot in use stays. What cannot be removed, as on a disk that cannot be written to, goes with
 * the next snapshot that succeeds.
 *
 * @throws where that is so, and where the sidecar cannot be read: then nothing says which graph is
 *   in use
 */
export async function removeLeftovers(folder: string): Promise<void> {
  const used = await readSidecar(folder)
  await rm(join(folder, ASIDE), { force: true })
  await removeAllBut(folder, used?.graph.file)
}

async function removeAllBut(folder: string, used: string | undefined): Promise<void> {
  const others = (await readdir(folder)).filter(
    (name) => /^hnsw-.*\.bin$/.test(name) && name !== used,
  )
  await Promise.all(others.map((name) => rm(join(folder, name), { force: true })))
}

/** The sidecar as JSON, with each id on a line of its own. */
function* written({ ids, ...rest }: Sidecar): Iterable<string> {
  yield `${JSON.stringify(rest).slice(0, -1)},${OPENING}`
  for (let from = 0; from < ids.length; from += SLICE) {
    const lines = ids.slice(from, from + SLICE).map((id) => `\n${JSON.stringify(id)}`)
    yield `${lines.join(',')}${from + SLICE < ids.length ? ',' : ''}`
  }
  yield CLOSING
}

/** @throws Unusable for one that cannot be read */
async function readSidecar(folder: string): Promise<Sidecar | null> {
  try {
    const value = await parsed(
      createReadStream(join(folder, SIDECAR), { encoding: 'utf8', highWaterMark: CHUNK_BYTES }),
    )
    if (Array.isArray(value.ids) && /^hnsw-[\w-]+\.bin$/.test(value.graph.file)) return value
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return null
    if (code !== undefined) throw error
    // Said below: whatever is wrong with it, the graph cannot be read without it.
  }
  throw new Unusable(`${SIDECAR} cannot be read`)
}

/**
 * What `written` made, read line by line; or the same on one line, as earlier versions wrote it.
 */
async function parsed(chunks: AsyncIterable<string>): Promise<Sidecar> {
  let head: Sidecar | null = null
  const ids: (string | null)[] = []
  let text = ''
  for await (const chunk of chunks) {
    text += chunk
    if (head === null) {
      const end = text.indexOf(`${OPENING}\n`)
      if (end === -1) continue
      head = JSON.parse(`${text.slice(0, end)}${OPENING}]}`) as Sidecar
      text = text.slice(end + OPENING.length + 1)
    }
    const end = text.lastIndexOf(',\n')
    if (end === -1) continue
    for (const id of JSON.parse(`[${text.slice(0, end)}]`) as (string | null)[]) ids.push(id)
    text = text.slice(end + 2)
  }
  if (head === null) return JSON.parse(text) as Sidecar
  for (const id of (JSON.parse(`{"ids":[${text}`) as Sidecar).ids) ids.push(id)
  return { ...head, ids }
}

async function digestOf(file: string): Promise<string | null> {
  try {
    return (await sha256OfFile(file)).sha256
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}
