/** Scores texts against images as a search does. */
import type { EncodedImage, Models } from '../model/models.js'
import type { ScoredPairs } from './fit.js'

/** An image with the texts that belong to it. */
export interface ImageTexts {
  image: Uint8Array
  texts: readonly string[]
}

/** Nearest images of a text that are scored, as many as the trainer takes. */
export const DEPTH = 64
const TEXTS_AT_ONCE = 64
const IMAGES_AT_ONCE = 8

/**
 * Each text with its nearest images and those that it belongs to. Equal texts belong to the images
 * of each. Texts that another text encoder than the first reads are left out.
 * @param advance - gets the number of images and texts that are done
 * @throws TandemError for an image that cannot be read
 */
export async function scorePairs(
  models: Pick<Models, 'info' | 'encodeImages' | 'encodeTexts' | 'encodeTokens' | 'match'>,
  pairs: readonly ImageTexts[],
  advance: (count: number) => void,
): Promise<ScoredPairs> {
  const images: Pick<EncodedImage, 'embedding' | 'imageTokens'>[] = []
  const isFused = models.info.tokenWidth > 0
  for (let at = 0; at < pairs.length; at += IMAGES_AT_ONCE) {
    const chunk = pairs.slice(at, at + IMAGES_AT_ONCE).map(({ image }) => image)
    const { encoded } = await models.encodeImages(chunk, { embeddingOnly: !isFused })
    const computed = await models.encodeTokens?.(encoded.map(({ image }) => image.bytes))
    images.push(
      ...encoded.map(({ embedding, imageTokens }, i) => ({
        embedding,
        imageTokens: computed?.tokens[i] ?? imageTokens,
      })),
    )
    advance(chunk.length)
  }
  const tokens = images.map(({ imageTokens }) => imageTokens)
  const texts = pairs.flatMap(({ texts: own }, image) => own.map((text) => ({ text, image })))
  const owners = new Map<string, Set<number>>()
  for (const { text, image } of texts) owners.set(text, (owners.get(text) ?? new Set()).add(image))
  const rows: { argument: number; match: number; isMatch: boolean; image: number }[] = []
  for (let at = 0; at < texts.length; at += TEXTS_AT_ONCE) {
    const chunk = texts.slice(at, at + TEXTS_AT_ONCE)
    const { encoded } = await models.encodeTexts(
      chunk.map(({ text }) => text),
      { embeddingOnly: !isFused },
    )
    const candidates = encoded.flatMap(({ embedding, encoder }, text) => {
      if (encoder !== 0) return []
      const own = owners.get(chunk[text]?.text ?? '') ?? new Set()
      return nearest(embedding, images, own).map((found) => ({ text, ...found }))
    })
    const { matches } = await models.match(encoded, tokens, candidates)
    matches.forEach(({ logit, match }, i) => {
      const { text = 0, image = 0 } = candidates[i] ?? {}
      const { text: sentence = '', image: own = 0 } = chunk[text] ?? {}
      const isMatch = owners.get(sentence)?.has(image) === true
      rows.push({ argument: logit, match, isMatch, image: own })
    })
    advance(chunk.length)
  }
  return {
    argument: Float64Array.from(rows, ({ argument }) => argument),
    match: Float64Array.from(rows, ({ match }) => match),
    isMatch: Uint8Array.from(rows, ({ isMatch }) => Number(isMatch)),
    image: Int32Array.from(rows, ({ image }) => image),
  }
}

function nearest(
  text: Float32Array,
  images: readonly { embedding: Float32Array }[],
  own: ReadonlySet<number>,
): { image: number; similarity: number }[] {
  const all = images.map(({ embedding }, image) => {
    let similarity = 0
    for (let i = 0; i < text.length; i += 1) similarity += (text[i] ?? 0) * (embedding[i] ?? 0)
    return { image, similarity }
  })
  all.sort((a, b) => b.similarity - a.similarity)
  return all.filter(({ image }, place) => place < DEPTH || own.has(image))
}
