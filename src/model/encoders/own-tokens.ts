/**
 * Tokens of a fusion encoder that does not read those of the dual encoder: image tokens of an image
 * encoder of its own, and as text tokens the ids of its tokenizer.
 */
import { mapInSlices } from '../../async/slices.js'
import { ownTokens, type Bundle, type Manifest, type OwnTokens } from '../bundle/bundle.js'
import { readBundleFile } from '../bundle/bundle-file.js'
import type { EncodedText } from '../models.js'
import { Tokenizer } from './tokenizer.js'

/** Reads texts for the fusion encoder. */
export class OwnTokenizer {
  readonly rules: OwnTokens['image_encoder']
  /** Whether image tokens are stored with an item, or computed when it is reranked. */
  readonly isStored: boolean
  readonly #tokenizer: Tokenizer

  private constructor(own: OwnTokens, tokenizer: Tokenizer, isStored: boolean) {
    this.rules = own.image_encoder
    this.isStored = isStored
    this.#tokenizer = tokenizer
  }

  /** Null where the fusion encoder reads the tokens of the dual encoder. */
  static async open(bundle: Bundle): Promise<OwnTokenizer | null> {
    const own = ownTokens(bundle.manifest)
    if (own === null) return null
    const file = await readBundleFile(bundle, own.tokenizer)
    return new OwnTokenizer(own, new Tokenizer(file, own.max_tokens), isStored(bundle.manifest))
  }

  /** The texts with the tokens that the fusion encoder reads. */
  async withTokens(
    encoded: readonly EncodedText[],
    texts: readonly string[],
    signal?: AbortSignal,
  ): Promise<EncodedText[]> {
    const ids = await mapInSlices(texts, (text) => this.#tokenizer.encode(text), signal)
    return encoded.map((text, row) => ({ ...text, ...asTokens(ids[row] ?? []) }))
  }

  /** The tokens of one text. */
  tokensOf(text: string): Pick<EncodedText, 'textTokens' | 'tokenCount'> {
    return asTokens(this.#tokenizer.encode(text))
  }
}

function asTokens(ids: readonly number[]): Pick<EncodedText, 'textTokens' | 'tokenCount'> {
  return { textTokens: Float32Array.from(ids), tokenCount: ids.length }
}

function isStored({ image_tokens: tokens }: Manifest): boolean {
  return tokens?.stored ?? true
}
