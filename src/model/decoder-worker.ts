/** The process that decodes pictures: the bytes of strangers meet libvips here, far from keys, items and sockets. */
import { answerCalls } from '../worker-process.js'
import { preprocess, type Preprocessed } from './preprocess.js'

export interface Commands {
  decode: { ask: { bytes: Uint8Array; size: number; maxPixels: number }; answer: Preprocessed }
}

answerCalls<Commands>({ decode: ({ bytes, size, maxPixels }) => preprocess(bytes, size, maxPixels) })
