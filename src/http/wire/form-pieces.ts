/** The bytes of a form, in pieces that cost the event loop little. */
import { Transform, type Readable, type TransformCallback } from 'node:stream'

/** Parts of nothing of this length are parsed within some milliseconds. */
const PIECE_BYTES = 16_384

/**
 * Cuts the chunks of a connection, and gives the event loop a turn after each piece: Node may read
 * 32 chunks of 64 KiB in one turn.
 */
export class FormPieces extends Transform {
  readonly #most: number
  readonly #tooLarge: () => Error
  #bytes = 0

  /**
   * @param most - bytes of the form, whose length no header has to tell
   * @param tooLarge - what the stream ends with if there are more
   */
  constructor(most: number, tooLarge: () => Error) {
    super()
    this.#most = most
    this.#tooLarge = tooLarge
  }

  /** Reads a request, whose end before the end of its body is the end of the pieces. */
  from(raw: Readable): this {
    raw.once('error', (error) => this.destroy(error))
    raw.once('close', () => {
      if (!raw.readableEnded) this.destroy()
    })
    return raw.pipe(this)
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#bytes += chunk.length
    if (this.#bytes > this.#most) done(this.#tooLarge())
    else this.#pass(chunk, 0, done)
  }

  #pass(chunk: Buffer, start: number, done: TransformCallback): void {
    const end = start + PIECE_BYTES
    this.push(chunk.subarray(start, end))
    setImmediate(() => {
      if (end < chunk.length && !this.destroyed) this.#pass(chunk, end, done)
      else done()
    })
  }
}
