/** Declarations for @huggingface/tokenizers 0.2.0, whose own do not resolve from an ES module. */
declare module '@huggingface/tokenizers' {
  export class Tokenizer {
    /** The contents of tokenizer.json and of tokenizer_config.json. */
    constructor(tokenizer: object, config: object)
    /** Special tokens included. */
    encode(text: string): { ids: number[] }
  }
}
