/** Reads the fields of a protocol buffer, the encoding of ONNX files, without a schema. */
import { BundleError } from '../bundle/bundle.js'

/**
 * Bytes of a nested message, a string or packed numbers; or a number, exact below 2⁵³. Fixed-width
 * numbers are skipped.
 */
export type Field = { field: number; content: Uint8Array } | { field: number; value: number }

/** Other readers drop the upper bits of a larger key and would see another field. */
const KEY_LIMIT = 2 ** 32

/**
 * The fields of one message, in their order.
 * @throws BundleError naming `file` when the bytes are not a complete message
 */
export function* fieldsOf(bytes: Uint8Array, file: string): Generator<Field> {
  let at = 0
  const varint = (): number => {
    let value = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at]
      at += 1
      if (byte === undefined || scale > 2 ** 63)
        throw new BundleError(`${file} is not a graph that can be run: it is cut off.`)
      value += (byte & 127) * scale
      if (byte < 128) return value
    }
  }
  while (at < bytes.length) {
    const key = varint()
    if (key >= KEY_LIMIT)
      throw new BundleError(`${file} is not a graph that can be run: it is not an ONNX file.`)
    const field = Math.floor(key / 8)
    const wire = key % 8
    if (wire === 0) yield { field, value: varint() }
    else if (wire === 1) at += 8
    else if (wire === 5) at += 4
    else if (wire === 2) {
      const length = varint()
      if (length > bytes.length - at)
        throw new BundleError(`${file} is not a graph that can be run: it is cut off.`)
      yield { field, content: bytes.subarray(at, at + length) }
      at += length
    } else throw new BundleError(`${file} is not a graph that can be run: it is not an ONNX file.`)
  }
}
