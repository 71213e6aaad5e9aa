/**
 * Fake models without a neural network. An "image" consists of an id and a version, which determine
 * every part of an item, so that the check recognises a lost, partial or mixed item.
 */
import { createHash } from 'node:crypto'
import type { EncodedImage, EncodedText, Models } from '../../src/model/models.js'
import type { Payload } from '../../src/retrieval/retrieval.js'
import { randomNumbers } from '../support/random-embeddings.js'

const TOKENS = { count: 4, width: 16 }

/** Two bundles, which encode the same image differently. */
export const fingerprints = {
  'bundle-a': '000000000000000a',
  'bundle-b': '000000000000000b',
} as const
export type BundleName = keyof typeof fingerprints

const common = {
  version: '1.0.0',
  description: '',
  license: '',
  calibrated: true,
  dim: 16,
  imageTokens: TOKENS,
  tokenWidth: 1,
  maxTokens: 64,
  rerank: { default: false, candidates: 8 },
} as const

export const otherBundle = (name: BundleName): BundleName =>
  name === 'bundle-a' ? 'bundle-b' : 'bundle-a'

/** The image that a client sends for `version` of `id`. */
export function fakeImage(id: string, version: number): Uint8Array {
  return Buffer.from(`${id}\n${version}`)
}

/** The payload that a client sends with the image. */
export function fakePayload(id: string, version: number): Payload {
  return { version, title: `version ${version} of ${id}` }
}

function seedOf(...parts: (string | Uint8Array)[]): number {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest().readUInt32LE(0)
}

/**
 * Encoding and image that the store must hold for `version` of `id`. The image is larger than a
 * page of the store. It begins with the client's image, so that the other bundle can encode it.
 */
export function fakeEncodedImage(id: string, version: number, bundle: BundleName): EncodedImage {
  const image = fakeImage(id, version)
  const seed = seedOf(image)
  const random = randomNumbers(seedOf(bundle, image))
  const values = Float32Array.from({ length: common.dim }, () => random() - 0.5)
  const length = Math.hypot(...values)
  return {
    embedding: values.map((value) => value / length),
    imageTokens: Int8Array.from(
      { length: TOKENS.count * TOKENS.width },
      () => Math.floor(random() * 256) - 128,
    ),
    image: {
      bytes: Buffer.concat([
        image,
        Buffer.from('\n'),
        Uint8Array.from({ length: 2000 + (seed % 5000) }, (_, at) => (seed + at * 7) % 256),
      ]),
      mime: 'image/jpeg',
      width: 512,
      height: (seed % 500) + 1,
    },
  }
}

/** Digest of all parts of an item. */
export function digestOf(
  payload: Payload | null,
  { embedding, imageTokens, image: { bytes, mime, width, height } }: EncodedImage,
): string {
  const hash = createHash('sha256').update(JSON.stringify([payload, mime, width, height]))
  for (const { buffer, byteOffset, byteLength } of [embedding, imageTokens, bytes]) {
    hash.update(new Uint8Array(buffer, byteOffset, byteLength))
  }
  return hash.digest('hex')
}

export class FakeModels implements Models {
  readonly workers = []
  readonly info: Models['info']
  readonly #bundle: BundleName

  constructor(name: BundleName) {
    this.#bundle = name
    this.info = {
      ...common,
      languages: ['en'],
      textEncoders: [{ languages: ['en'] }],
      name,
      fingerprint: fingerprints[name],
    }
  }

  encodeTexts(texts: readonly string[]): ReturnType<Models['encodeTexts']> {
    const encoded = texts.map((text): EncodedText => ({
      embedding: fakeEncodedImage(text, 0, this.#bundle).embedding,
      textTokens: new Float32Array(1),
      tokenCount: 1,
      encoder: 0,
    }))
    return Promise.resolve({ encoded, timings: {} })
  }

  encodeImages(images: readonly Uint8Array[]): ReturnType<Models['encodeImages']> {
    const encoded = images.map((bytes) => {
      const [id = '', version] = Buffer.from(bytes).toString('latin1').split('\n', 2)
      return fakeEncodedImage(id, Number(version), this.#bundle)
    })
    return Promise.resolve({ encoded, timings: {} })
  }

  match(...[, , pairs]: Parameters<Models['match']>): ReturnType<Models['match']> {
    return Promise.resolve({ matches: pairs.map(() => ({ logit: 0, match: 0.5 })), timings: {} })
  }

  stats(): ReturnType<Models['stats']> {
    return { queueDepth: 0, inFlight: 0, batches: [] }
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}
