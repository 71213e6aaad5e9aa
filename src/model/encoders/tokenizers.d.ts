/**
 * What we use of @huggingface/tokenizers, whose own declarations cannot be resolved by an ES
 * module's rules (0.2.0).
 */
declare module '@huggingface/tokenizers' {
  export class Tokenizer {
    /** The contents of tokenizer.json and of tokenizer_config.json. */
    constructor(tokenizer: object, config: object)
    /** Special tokens included. */
    encode(text: string): { ids: number[] }
  }
}
