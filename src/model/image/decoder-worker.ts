/**
 * The process that decodes images: the bytes of strangers meet libvips here, far from keys, items
 * and sockets.
 */
import { answerCalls } from '../../worker/answer-calls.js'
import { writePixels, type Pixels } from '../inference/pixel-files.js'
import { preprocess, type Preprocessed } from './preprocess.js'

/** An image whose pixels may lie in a file. */
export type Decoded = Omit<Preprocessed, 'pixels'> & { pixels: Pixels }

export interface Commands {
  /**
   * The pixels go into the new file `into`, or into the answer where there is none or it cannot be
   * written.
   */
  decode: {
    input: {
      bytes: Uint8Array
      size: number
      maxPixels: number
      into: string | null
      isStored: boolean
    }
    output: Decoded
  }
}

answerCalls<Commands>({
  decode: async ({ bytes, size, maxPixels, into, isStored }) => {
    const { pixels, image } = await preprocess(bytes, size, maxPixels, isStored)
    return { pixels: into === null ? pixels : writePixels(pixels, into), image }
  },
})
