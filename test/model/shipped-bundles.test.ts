/**
 * What training recorded with a bundle comes out of the service again: for every bundle in models/,
 * and the tiny ones.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { openModels } from '../../src/model/open.js'
import type { EncodedText, Models } from '../../src/model/models.js'
import { textEncodersOf, type Manifest } from '../../src/model/bundle/bundle.js'
import { Tokenizer } from '../../src/model/encoders/tokenizer.js'
import { cosine } from '../support/random-embeddings.js'

vi.setConfig({ testTimeout: 60_000 })

/** Of float32, where the rule has no part for the logit. */
const ROUNDING = 1e-5

interface Goldens {
  /** `encoder`: position among the text encoders, 0 if absent. */
  texts: { text: string; token_ids: number[]; embedding: number[]; encoder?: number }[]
  image: { file: string; embedding: number[]; image_tokens_head: number[] }
  matches: { text: number; logit: number; similarity: number; match: number }[]
  tolerances: { embedding_cosine: number; logit: number; image_token?: number }
}

const shipped = fileURLToPath(new URL('../../models', import.meta.url))
const folders = [
  ...['tiny-bundle', 'tiny-dual-bundle'].map((name) =>
    fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url)),
  ),
  ...readdirSync(shipped).map((name) => join(shipped, name)),
].filter((folder) => existsSync(join(folder, 'manifest.json')))

describe.each(folders)('the goldens of %s', (folder) => {
  const readJson = (path: string): unknown => JSON.parse(readFileSync(join(folder, path), 'utf8'))
  const manifest = readJson('manifest.json') as Manifest
  const { texts, image, matches, tolerances } = readJson(manifest.goldens) as Goldens
  const encoders = textEncodersOf(manifest)
  let models: Models

  /** By the encoder at that position: the client names a language of it. */
  async function embeddingOf(text: string, encoder: number): Promise<Float32Array> {
    const language = encoders[encoder]?.languages[0]
    const [read] = (await models.encodeTexts([text], { language })).encoded
    expect(read?.encoder).toBe(encoder)
    return (read as EncodedText).embedding
  }

  beforeAll(async () => {
    models = await openModels({ folder, inferenceThreads: 1, maxImagePixels: 1e8 })
  })

  afterAll(async () => {
    await models.close()
  })

  it('hold something', () => {
    expect(texts.length).toBeGreaterThan(0)
    expect(matches.length).toBeGreaterThan(0)
  })

  it('token ids are the same', () => {
    const tokenizers = encoders.map(
      ({ tokenizer, max_tokens: most }) =>
        new Tokenizer(readFileSync(join(folder, tokenizer)), most),
    )
    expect(texts.map(({ text, encoder = 0 }) => tokenizers[encoder]?.encode(text))).toEqual(
      texts.map(({ token_ids: ids }) => ids),
    )
  })

  it('text embeddings agree', async () => {
    for (const { text, embedding, encoder = 0 } of texts) {
      const found = await embeddingOf(text, encoder)
      expect(found).toHaveLength(manifest.embedding.dim)
      expect(cosine(found, Float32Array.from(embedding))).toBeGreaterThanOrEqual(
        tolerances.embedding_cosine,
      )
    }
  })

  it('the image embedding agrees with the recorded one, and image tokens differ by one step at most', async () => {
    const [found] = (await models.encodeImages([readFileSync(join(folder, image.file))])).encoded
    expect(
      cosine(found?.embedding ?? new Float32Array(), Float32Array.from(image.embedding)),
    ).toBeGreaterThanOrEqual(tolerances.embedding_cosine)
    const head = [...(found?.imageTokens ?? [])].slice(0, image.image_tokens_head.length)
    const differences = head.map((value, i) =>
      Math.abs(value - (image.image_tokens_head[i] ?? Infinity)),
    )
    expect(head.length).toBe(image.image_tokens_head.length)
    expect(Math.max(0, ...differences)).toBeLessThanOrEqual(tolerances.image_token ?? 1)
  })

  it('logits and matches agree', async () => {
    const own = texts.filter(({ encoder = 0 }) => encoder === 0)
    const language = encoders[0].languages[0]
    const { encoded } = await models.encodeTexts(
      own.map(({ text }) => text),
      { language },
    )
    const [found] = (await models.encodeImages([readFileSync(join(folder, image.file))])).encoded
    const pairs = matches.map(({ text, similarity }) => ({ text, image: 0, similarity }))
    const answer = await models.match(encoded, [found?.imageTokens ?? new Int8Array()], pairs)
    const rule = manifest.match
    matches.forEach(({ logit, similarity, match }, i) => {
      const expected = rule.logit * logit + rule.similarity * similarity + rule.bias
      const tolerance = tolerances.logit * Math.abs(rule.logit) + ROUNDING
      expect(Math.abs((answer.matches[i]?.logit ?? Infinity) - expected)).toBeLessThanOrEqual(
        tolerance,
      )
      expect(Math.abs((answer.matches[i]?.match ?? Infinity) - match)).toBeLessThanOrEqual(
        tolerance / 4,
      )
    })
  })
})
