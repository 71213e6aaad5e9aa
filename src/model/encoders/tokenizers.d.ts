/** Declarations for @huggingface/tokenizers 0.2.0, whose own do not resolve from an ES module. */
declare module '@huggingface/tokenizers' {
  /** The part that splits words into pieces. */
  export interface TokenizerModel {
    readonly config: { type?: string; continuing_subword_prefix?: string | null }
    readonly tokens_to_ids: ReadonlyMap<string, number>
    readonly unk_token?: string
    /** Whether unknown pieces in a row become one. */
    readonly fuse_unk: boolean
    /** Of WordPiece alone. */
    readonly max_input_chars_per_word?: number
    encode: (words: readonly string[]) => string[]
  }
  export class Tokenizer {
    readonly model: TokenizerModel
    /** The contents of tokenizer.json and of tokenizer_config.json. */
    constructor(tokenizer: object, config: object)
    /** Special tokens included. */
    encode(text: string): { ids: number[] }
  }
}
