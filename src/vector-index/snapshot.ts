/**
 * The snapshot of an HNSW index: a graph file of hnswlib, and the sidecar `hnsw.json` that
 * describes it and ends with a digest of its own bytes.
 *
 * hnswlib writes in place without checks. So a graph is written under a new name and flushed; then
 * a sidecar that names it atomically replaces the old one. After a crash the sidecar fits its
 * graph.
 */
import { createHash, randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { StringDecoder } from 'node:string_decoder'
import { flush, replaceFile } from '../files/flush.js'
import { sha256OfFile } from '../files/sha256.js'

/** 2: the sidecar names its item store. */
const FORMAT = 2
const SIDECAR = 'hnsw.json'
const ASIDE = `${SIDECAR}.new`
/** Ids written between two yields to the event loop: a sidecar may have millions. */
const SLICE = 4096
const CHUNK_BYTES = 128 * 1024
const OPENING = '"ids":['
/** The end of a sidecar, after all that the digest covers. */
const CLOSING = /\n\],"sha256":"([0-9a-f]{64})"\}\n$/
/** Sidecars of earlier versions have no digest. */
const EARLIER_CLOSING = /[\]}]\}\n?$/
const CLOSING_BYTES = 80

export interface Sidecar {
  format: number
  fingerprint: string
  dim: number
  /** Identity of the indexed item store. */
  storeIdentity: string
  /** The last change of that store that the graph has. */
  position: number
  /** Labels of copies and their nodes, see SavedCopies; earlier versions have none. */
  copies?: readonly number[]
  /** The near ones of them and the file with their embeddings; absent without near copies. */
  near?: { labels: readonly number[]; file: string; sha256: string }
  /** Label → id; null for an empty label. */
  ids: readonly (string | null)[]
  graph: { file: string; sha256: string }
}

/** `file` is the graph, `copiesFile` the embeddings of near copies; null without near copies. */
export type FoundSnapshot =
  { sidecar: Sidecar; file: string; copiesFile: string | null } | { discarded: string | null }

/** Why a snapshot cannot be used; internal to this file. The message becomes `discarded`. */
class Unusable extends Error {}

/** The origin that a snapshot has to have. */
export type Origin = Pick<Sidecar, 'fingerprint' | 'dim' | 'storeIdentity'>

/** The snapshot in `folder` if it is complete and of this origin; otherwise why it is not used. */
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
    for (const { file, sha256 } of filesOf(sidecar))
      if ((await digestOf(join(folder, file))) !== sha256) throw new Unusable(`${file} is damaged`)
    const { graph, near } = sidecar
    return {
      sidecar,
      file: join(folder, graph.file),
      copiesFile: near === undefined ? null : join(folder, near.file),
    }
  } catch (error) {
    if (!(error instanceof Unusable)) throw error
    return { discarded: `The snapshot in ${folder} is not used: ${error.message}.` }
  }
}

/** Whether an index was saved in the folder, also a damaged one. */
export async function hasSnapshot(folder: string): Promise<boolean> {
  const names: string[] = await readdir(folder).catch(() => [])
  return names.includes(SIDECAR)
}

/** New names for a graph and the embeddings of near copies. */
export function newFiles(position: number): { graph: string; copies: string } {
  const name = `hnsw-${position}-${randomUUID().slice(0, 8)}`
  return { graph: `${name}.bin`, copies: `${name}-copies.bin` }
}

/** Makes the flushed files the ones in use and removes the others. */
export async function publishSnapshot(
  folder: string,
  sidecar: Omit<Sidecar, 'format'>,
): Promise<void> {
  await replaceFile(join(folder, SIDECAR), serialise({ format: FORMAT, ...sidecar }))
  await flush(folder)
  await removeAllBut(folder, sidecar)
}

/**
 * Removes the files of a failed snapshot, since the disk may be full. The snapshot in use stays.
 *
 * @throws if a file cannot be removed (the next snapshot tries again), or if the sidecar cannot be
 *   read, so that the graph in use is unknown
 */
export async function removeLeftovers(folder: string): Promise<void> {
  const sidecar = await readSidecar(folder)
  await rm(join(folder, ASIDE), { force: true })
  await removeAllBut(folder, sidecar)
}

type Files = Pick<Sidecar, 'graph' | 'near'>

function filesOf({ graph, near }: Files): { file: string; sha256: string }[] {
  return near === undefined ? [graph] : [graph, near]
}

async function removeAllBut(folder: string, inUse: Files | null): Promise<void> {
  const used = inUse === null ? [] : filesOf(inUse).map(({ file }) => file)
  const others = (await readdir(folder)).filter(
    (name) => /^hnsw-.*\.bin$/.test(name) && !used.includes(name),
  )
  await Promise.all(others.map((name) => rm(join(folder, name), { force: true })))
}

/** The sidecar as JSON, one id a line, with its digest at the end. */
function* serialise({ ids, ...rest }: Sidecar): Iterable<string> {
  const hash = createHash('sha256')
  const hashed = (text: string): string => {
    hash.update(text)
    return text
  }
  yield hashed(`${JSON.stringify(rest).slice(0, -1)},${OPENING}`)
  for (let from = 0; from < ids.length; from += SLICE) {
    const lines = ids.slice(from, from + SLICE).map((id) => `\n${JSON.stringify(id)}`)
    yield hashed(`${lines.join(',')}${from + SLICE < ids.length ? ',' : ''}`)
  }
  yield `\n],"sha256":"${hash.digest('hex')}"}\n`
}

/** @throws Unusable if it cannot be read */
async function readSidecar(folder: string): Promise<Sidecar | null> {
  try {
    const bytes = createReadStream(join(folder, SIDECAR), { highWaterMark: CHUNK_BYTES })
    const sidecar = await parse(verified(bytes as AsyncIterable<Buffer>))
    const names = filesOf(sidecar).map(({ file }) => file)
    if (Array.isArray(sidecar.ids) && names.every((name) => /^hnsw-[\w-]+\.bin$/.test(name)))
      return sidecar
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return null
    if (code !== undefined) throw error
    // Malformed; refused below.
  }
  throw new Unusable(`${SIDECAR} cannot be read, or is damaged`)
}

/**
 * Decodes a sidecar and compares it with the digest at its end.
 * @throws Error if they differ
 */
async function* verified(chunks: AsyncIterable<Buffer>): AsyncIterable<string> {
  const hash = createHash('sha256')
  const decoder = new StringDecoder('utf8')
  let tail = Buffer.alloc(0)
  for await (const chunk of chunks) {
    yield decoder.write(chunk)
    const bytes = Buffer.concat([tail, chunk])
    const end = Math.max(0, bytes.length - CLOSING_BYTES)
    hash.update(bytes.subarray(0, end))
    tail = bytes.subarray(end)
  }
  const text = tail.toString('latin1')
  const closing = CLOSING.exec(text)
  if (closing === null && EARLIER_CLOSING.test(text)) return
  const digest = hash.update(tail.subarray(0, closing?.index ?? 0)).digest('hex')
  if (digest !== closing?.[1]) throw new Error('the digest differs')
}

/** Parses line by line, or at once if an earlier version wrote all ids on one line. */
async function parse(chunks: AsyncIterable<string>): Promise<Sidecar> {
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

/** Null if the file is missing. */
async function digestOf(file: string): Promise<string | null> {
  try {
    return (await sha256OfFile(file)).sha256
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}
