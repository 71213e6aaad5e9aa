/**
 * Embeddings to measure an index: those of real photos by the shipped bundle, extended to any
 * number by noise of the same distribution, and those of captions as queries.
 */
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readShards } from '../src/cli/captions/dataset.js'
import { packageFolder } from '../src/config.js'
import { openModels } from '../src/model/open.js'
import { normalise } from '../src/vector-index/normalise.js'
import { randomEmbeddings, randomNumbers } from '../test/support/random-embeddings.js'
import { BenchSkipped, type Scale } from './bench.js'

/** Outside the repository, so that all copies of it share the encoded photos. */
export const benchCache = join(tmpdir(), 'tandem-bench')
export const BUNDLE = join(packageFolder, 'models', 'tandem-small')
const DATA = join(packageFolder, '..', 'shared', 'data')
const SHARDS = ['dev-0000', 'train-0000', 'train-0001', 'train-0002', 'train-0003'].map((name) =>
  join(DATA, `flickr8k-${name}.tar`),
)
const SMOKE_DIM = 32
/** Number of captions, those of the first photos. */
const CAPTIONS = 1000
const AT_ONCE = 32
/**
 * Distance of an extended embedding from the real one: about that of a real one from its nearest.
 */
const NOISE = 0.5

/** Unit vectors in rows. */
export interface Vectors {
  dim: number
  count: number
  packed: Float32Array
}

export interface RealEmbeddings {
  photos: Vectors
  captions: Vectors
}

/** Whether the photos exist. */
export function hasPhotos(): boolean {
  return SHARDS.every((shard) => existsSync(shard))
}

/**
 * A few hundred random embeddings for a smoke run, otherwise the real ones.
 * @throws BenchSkipped if the photos are missing
 */
export async function embeddingsFor(scale: Scale): Promise<RealEmbeddings> {
  if (scale === 'smoke') return { photos: madeUp(500, 1), captions: madeUp(100, 2) }
  if (!hasPhotos())
    throw new BenchSkipped(`${SHARDS.join(', ')} are wanted: photos to make embeddings of`)
  return realEmbeddings()
}

/** Encoded once, which takes minutes of both cores, then read from the cache. */
export async function realEmbeddings(): Promise<RealEmbeddings> {
  const manifest = JSON.parse(readFileSync(join(BUNDLE, 'manifest.json'), 'utf8')) as {
    version: string
    embedding: { dim: number }
  }
  const { dim } = manifest.embedding
  const file = join(benchCache, `embeddings-${manifest.version}.bin`)
  if (!existsSync(file)) {
    const encoded = await encode(dim)
    await mkdir(benchCache, { recursive: true })
    await writeFile(`${file}.new`, Buffer.from(encoded.buffer))
    await rename(`${file}.new`, file)
  }
  const bytes = readFileSync(file)
  const all = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
  const split = CAPTIONS * dim
  return {
    captions: vectors(dim, all.subarray(0, split)),
    photos: vectors(dim, all.subarray(split)),
  }
}

function madeUp(count: number, seed: number): Vectors {
  return vectors(
    SMOKE_DIM,
    Float32Array.from(
      randomEmbeddings(count, SMOKE_DIM, seed).flatMap((one) => [...normalise(one, SMOKE_DIM)]),
    ),
  )
}

/** Captions, then photos, packed. */
async function encode(dim: number): Promise<Float32Array> {
  const photos = await readShards(SHARDS, 'en')
  const models = await openModels({ folder: BUNDLE, inferenceThreads: 0, maxImagePixels: 1e7 })
  const packed = new Float32Array((CAPTIONS + photos.length) * dim)
  const put = (row: number, encoded: readonly { embedding: Float32Array }[]): void =>
    encoded.forEach(({ embedding }, at) => packed.set(embedding, (row + at) * dim))
  try {
    for (let from = 0; from < CAPTIONS; from += AT_ONCE) {
      const texts = photos
        .slice(from, Math.min(from + AT_ONCE, CAPTIONS))
        .map(({ captions }) => captions[0] ?? '')
      put(from, (await models.encodeTexts(texts)).encoded)
    }
    for (let from = 0; from < photos.length; from += AT_ONCE) {
      const images = photos.slice(from, from + AT_ONCE).map(({ image }) => image)
      put(CAPTIONS + from, (await models.encodeImages(images)).encoded)
    }
  } finally {
    await models.close()
  }
  return packed
}

function vectors(dim: number, packed: Float32Array): Vectors {
  return { dim, count: packed.length / dim, packed }
}

/**
 * The embeddings `from` to `from + count` of an endless sequence: first the real ones, then real
 * ones moved along the difference of two others. So the noise varies in the directions in which
 * real embeddings do. Deterministic for a seed.
 */
export function extended(
  { dim, count: known, packed: real }: Vectors,
  from: number,
  count: number,
  seed = 1,
): Vectors {
  const packed = new Float32Array(count * dim)
  for (let row = 0; row < count; row += 1) {
    const at = from + row
    const out = packed.subarray(row * dim, (row + 1) * dim)
    if (at < known) {
      out.set(real.subarray(at * dim, (at + 1) * dim))
      continue
    }
    const next = randomNumbers(Math.imul(seed, 0x9e3779b1) + at)
    const [a, b, c] = [at % known, Math.floor(next() * known), Math.floor(next() * known)].map(
      (one) => one * dim,
    ) as [number, number, number]
    let square = 0
    for (let i = 0; i < dim; i += 1) {
      const value =
        (real[a + i] as number) + NOISE * ((real[b + i] as number) - (real[c + i] as number))
      out[i] = value
      square += value * value
    }
    const length = Math.sqrt(square)
    for (let i = 0; i < dim; i += 1) out[i] = (out[i] as number) / length
  }
  return vectors(dim, packed)
}

/** A view of row `at`. */
export function row({ dim, packed }: Vectors, at: number): Float32Array {
  return packed.subarray(at * dim, (at + 1) * dim)
}
