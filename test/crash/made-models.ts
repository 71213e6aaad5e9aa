/**
 * Models without a network: a "picture" is a name and a version, and every part of an item follows from the two, so that
 * a lost, torn or mixed item is seen.
 */
import { createHash } from 'node:crypto'
import type { EncodedImage, EncodedText, Models } from '../../src/model.js'
import type { Payload } from '../../src/retrieval.js'
import { randomNumbers } from '../vector-index/random-embeddings.js'

const TOKENS = { count: 4, width: 16 }

export const madeInfo: Models['info'] = {
  name: 'made',
  version: '1.0.0',
  description: '',
  license: '',
  languages: ['en'],
  fingerprint: 'crash-test',
  dim: 16,
  imageTokens: TOKENS,
  tokenWidth: 1,
  maxTokens: 64,
  rerank: { default: false, candidates: 8 },
}

/** What a client sends for `version` of `id`. */
export function madeImage(id: string, version: number): Uint8Array {
  return Buffer.from(`${id}\n${version}`)
}

/** What a client sends with it. */
export function madePayload(id: string, version: number): Payload {
  return { version, title: `version ${version} of ${id}` }
}

/** What the store has to hold for `version` of `id`. The picture is larger than a page of the store. */
export function madeParts(id: string, version: number): EncodedImage {
  const seed = createHash('sha256').update(madeImage(id, version)).digest().readUInt32LE(0)
  const next = randomNumbers(seed)
  const values = Float32Array.from({ length: madeInfo.dim }, () => next() - 0.5)
  const length = Math.hypot(...values)
  return {
    embedding: values.map((value) => value / length),
    imageTokens: Int8Array.from({ length: TOKENS.count * TOKENS.width }, () => Math.floor(next() * 256) - 128),
    picture: {
      bytes: Uint8Array.from({ length: 2000 + (seed % 5000) }, (_, at) => (seed + at * 7) % 256),
      mime: 'image/jpeg',
      width: 512,
      height: (seed % 500) + 1,
    },
  }
}

/** One string for all parts of an item: equal only where every byte is. */
export function digestOf(
  payload: Payload | null,
  { embedding, imageTokens, picture: { bytes, mime, width, height } }: EncodedImage,
): string {
  const hash = createHash('sha256').update(JSON.stringify([payload, mime, width, height]))
  for (const { buffer, byteOffset, byteLength } of [embedding, imageTokens, bytes]) {
    hash.update(new Uint8Array(buffer, byteOffset, byteLength))
  }
  return hash.digest('hex')
}

export class MadeModels implements Models {
  readonly info = madeInfo
  readonly workers = []

  encodeTexts(texts: readonly string[]): ReturnType<Models['encodeTexts']> {
    const encoded = texts.map((text): EncodedText => ({
      embedding: madeParts(text, 0).embedding,
      textTokens: new Float32Array(1),
      tokenCount: 1,
    }))
    return Promise.resolve({ encoded, timings: {} })
  }

  encodeImages(images: readonly Uint8Array[]): ReturnType<Models['encodeImages']> {
    const encoded = images.map((bytes) => {
      const [id = '', version] = Buffer.from(bytes).toString().split('\n')
      return madeParts(id, Number(version))
    })
    return Promise.resolve({ encoded, timings: {} })
  }

  match(...[, , pairs]: Parameters<Models['match']>): ReturnType<Models['match']> {
    return Promise.resolve({ matches: pairs.map(() => ({ logit: 0, match: 0.5 })), timings: {} })
  }

  stats(): ReturnType<Models['stats']> {
    return { queueDepth: 0, inFlight: 0 }
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}
