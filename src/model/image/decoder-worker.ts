/** Decodes untrusted image bytes in a process that holds no keys, no items and no sockets. */
import { answerCalls } from '../../worker/answer-calls.js'
import { writePixels, type Pixels } from '../inference/pixel-files.js'
import type { PixelRules } from '../bundle/bundle.js'
import { withinBudget } from './decode-budget.js'
import { preprocess, type Preprocessed } from './preprocess.js'

/** An image whose pixels may be in a file. */
export type Decoded = Omit<Preprocessed, 'pixels'> & { pixels: Pixels }

export interface Commands {
  /** Whether an image is still decoded whose call has been answered. */
  isDecoding: { input: null; output: boolean }
  /** Keeps a piece of the next image. */
  keep: { input: { piece: Uint8Array; isFirst: boolean }; output: null }
  /**
   * Decodes the pieces that were kept, followed by `bytes`. Writes the pixels to the new file
   * `into`; returns them if it is null or cannot be written. One call at a time.
   */
  decode: {
    input: {
      bytes: Uint8Array
      rules: PixelRules
      maxPixels: number
      into: string | null
      isStored: boolean
    }
    output: Decoded
  }
}

let pieces: Uint8Array[] = []
let decoding = 0

answerCalls<Commands>({
  isDecoding: () => decoding > 0,
  keep: ({ piece, isFirst }) => {
    if (isFirst) pieces = []
    pieces.push(piece)
    return null
  },
  decode: async ({ bytes, rules, maxPixels, into, isStored }) => {
    const whole = pieces.length === 0 ? bytes : Buffer.concat([...pieces, bytes])
    pieces = []
    const { pixels, image } = await withinBudget(() => {
      decoding += 1
      return preprocess(whole, rules, maxPixels, isStored).finally(() => (decoding -= 1))
    })
    return { pixels: into === null ? pixels : writePixels(pixels, into), image }
  },
})
