/** The contract of an import: what a folder of somebody else's layout says of its model. */
import type { PixelRules } from '../model/bundle/bundle.js'

/** What is read of a folder before its graphs are opened. */
export interface ForeignModel {
  /** The layout and how it was recognised, for the user. */
  layout: string
  /** Where the model comes from: a folder or an id of the hub. */
  source: string
  image: {
    graph: string
    pixels: PixelRules
    normalisation: Normalisation
    /** Names of outputs that are the embedding, the best first. */
    outputs: readonly string[]
  }
  text: {
    graph: string
    /** The contents of tokenizer.json. */
    tokenizer: TokenizerFile
    cleaning: Cleaning
    /** What every text ends with and does not begin with; null to keep what the file does. */
    ending: { last: string; never: string | null } | null
    /** Tokens of a text at most. */
    length: number
    padding: number
    /** Whether a text is padded to `length` by the rules of the model. */
    isPadded: boolean
    outputs: readonly string[]
  }
  /** Scale and bias of the logits; null if the folder does not have them. */
  logits: { scale: number; bias: number } | null
  /** CLIP compares within a batch, SigLIP each pair alone. */
  loss: 'softmax' | 'sigmoid'
  precision: 'fp32' | 'int8'
  license: string | null
  /** Codes of languages; null if the folder names none. */
  languages: readonly string[] | null
  /** What a user should know of this import. */
  notes: string[]
}

/** How pixels become the numbers that a graph expects: (pixel × rescale − mean) / deviation. */
export interface Normalisation {
  rescale: number
  mean: readonly number[]
  deviation: readonly number[]
}

/** What happens to a text before it is tokenised. */
export interface Cleaning {
  /** Whether curled quotation marks become straight ones, as ftfy does for open_clip. */
  straightQuotes: boolean
  lowercase: boolean
  /** Whether ASCII punctuation is removed; `spaced` makes a space of an underscore first. */
  punctuation: 'kept' | 'removed' | 'spaced'
  /** Whether white space becomes single spaces, none at the ends. */
  collapse: boolean
}

/** The parts of tokenizer.json that an import reads or changes. */
export interface TokenizerFile {
  model: { type?: string; vocab?: Record<string, number> | [string, number][] }
  added_tokens?: { id: number; content: string }[]
  normalizer?: object | null
  post_processor?: object | null
  truncation?: unknown
  padding?: unknown
}

/** Options of `tandem models add` about the folder. */
export interface ReadOptions {
  /** Which variant of the graphs; fp32 by default. */
  variant?: string | undefined
  /** tokenizer.json for a folder without one. */
  tokenizer?: string | undefined
  /** Preprocessing for a folder without a description of it. */
  preprocess?: string | undefined
  /** The id on the hub; the folder by default. */
  source?: string | undefined
}
