/**
 * Photos and one caption of each, encoded as in a service.
 */
import type { CaptionedImage } from '../../src/cli/captions/dataset.js'
import type { EncodedImage, EncodedText, Models } from '../../src/model/models.js'
import { cosine } from '../../src/vector-index/normalise.js'

export interface EncodedPhotos {
  images: EncodedImage[]
  /** The first caption of each photo. */
  texts: EncodedText[]
}

/** A photo and its similarity to a caption. */
export interface Candidate {
  image: number
  similarity: number
}

const AT_ONCE = 16

export async function encodePhotos(
  models: Models,
  photos: readonly CaptionedImage[],
): Promise<EncodedPhotos> {
  const images: EncodedImage[] = []
  const texts: EncodedText[] = []
  for (let start = 0; start < photos.length; start += AT_ONCE) {
    const some = photos.slice(start, start + AT_ONCE)
    images.push(...(await models.encodeImages(some.map(({ image }) => image))).encoded)
    texts.push(
      ...(await models.encodeTexts(some.map(({ captions: [caption = ''] }) => caption))).encoded,
    )
  }
  return { images, texts }
}

/** All photos by their similarity to the caption, best first. */
export function recalled({ images }: EncodedPhotos, { embedding }: EncodedText): Candidate[] {
  return images
    .map((one, image) => ({ image, similarity: cosine(embedding, one.embedding) }))
    .sort((a, b) => b.similarity - a.similarity)
}

/** The logit that orders hits, for each candidate. */
export async function matched(
  models: Models,
  photos: EncodedPhotos,
  text: EncodedText,
  candidates: readonly Candidate[],
): Promise<number[]> {
  const tokens = candidates.map(({ image }) => (photos.images[image] as EncodedImage).imageTokens)
  const pairs = candidates.map(({ similarity }, image) => ({ text: 0, image, similarity }))
  return (await models.match([text], tokens, pairs)).matches.map(({ logit }) => logit)
}
