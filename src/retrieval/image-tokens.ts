/** Image tokens of candidates and documents, for the fusion encoder. */
import type { Call, Models } from '../model/models.js'

export interface Tokenised {
  /** Empty where the bundle does not store tokens. */
  imageTokens: Int8Array
  /** The image, where its tokens are computed. */
  image?: Uint8Array
}

/** The tokens that are there, or those that the models compute. */
export async function tokensOf(
  models: Pick<Models, 'encodeTokens'>,
  images: readonly Tokenised[],
  call?: Call,
): Promise<readonly Int8Array[]> {
  if (models.encodeTokens === undefined) return images.map(({ imageTokens }) => imageTokens)
  const files = images.map(({ image }) => {
    if (image === undefined) throw new Error('an image without tokens has no bytes')
    return image
  })
  return (await models.encodeTokens(files, call)).tokens
}
