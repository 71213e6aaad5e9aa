/**
 * ONNX's own schema, and a walk through a file by it. The walk visits every occurrence of a field,
 * because readers merge the occurrences of a message.
 */
import { readFileSync } from 'node:fs'
import protobuf from 'protobufjs'
import { BundleError } from '../bundle/bundle.js'

const schema = new URL('../../../vendor/onnx/onnx.proto', import.meta.url)
const { root } = protobuf.parse(readFileSync(schema, 'utf8'), { keepCase: true })
root.resolveAll()

/** The message of a whole file. */
export const MODEL = root.lookupType('onnx.ModelProto')

/** Other readers drop the upper bits of a larger key and would see another field. */
const KEY_LIMIT = 2 ** 32
const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 }

/** A nested message; the bytes of a string or of packed numbers; or a number, exact below 2⁵³. */
export type Field = { name: string | undefined } & (
  { message: Message } | { content: Uint8Array } | { value: number }
)

/** A message of a file, not yet read. */
export class Message {
  readonly #bytes: Uint8Array
  readonly #file: string

  /** @param file - the name in errors */
  constructor(
    bytes: Uint8Array,
    file: string,
    readonly type: protobuf.Type = MODEL,
  ) {
    this.#bytes = bytes
    this.#file = file
  }

  /**
   * The fields in their order; those of fixed width are skipped.
   * @throws BundleError naming the file when the bytes are not a complete message
   */
  *fields(): Generator<Field> {
    const reader = protobuf.Reader.create(this.#bytes)
    while (reader.pos < reader.len) {
      const field = this.#read(reader)
      if (field !== null) yield field
    }
  }

  messages(name: string): Message[] {
    return [...this.fields()].flatMap((field) =>
      field.name === name && 'message' in field ? [field.message] : [],
    )
  }

  texts(name: string): string[] {
    return [...this.fields()].flatMap((field) =>
      field.name === name && 'content' in field ? [textOf(field.content)] : [],
    )
  }

  /** The last occurrence, which is the one that counts. */
  number(name: string): number | undefined {
    let value: number | undefined
    for (const field of this.fields())
      if (field.name === name && 'value' in field) value = field.value
    return value
  }

  #read(reader: protobuf.Reader): Field | null {
    try {
      const key = numberOf(reader.uint64())
      const wire = key % 8
      const declared = this.type.fieldsById[Math.floor(key / 8)]
      const name = declared?.name
      if (key < KEY_LIMIT && wire === WIRE.varint) return { name, value: numberOf(reader.uint64()) }
      if (key < KEY_LIMIT && wire === WIRE.bytes) {
        const content = reader.bytes()
        const nested = declared?.resolvedType
        return nested instanceof protobuf.Type
          ? { name, message: new Message(content, this.#file, nested) }
          : { name, content }
      }
      if (key < KEY_LIMIT && (wire === WIRE.fixed64 || wire === WIRE.fixed32)) {
        reader.skipType(wire)
        return null
      }
    } catch (error) {
      if (!(error instanceof RangeError)) throw this.#refusal('it is not an ONNX file')
      throw this.#refusal('it is cut off')
    }
    throw this.#refusal('it is not an ONNX file')
  }

  #refusal(reason: string): BundleError {
    return new BundleError(`${this.#file} is not a graph that can be run: ${reason}.`)
  }
}

function numberOf(value: number | { low: number; high: number }): number {
  if (typeof value === 'number') return value
  return (value.high >>> 0) * 2 ** 32 + (value.low >>> 0)
}

/** UTF-8, without a copy of the bytes. */
export function textOf(content: Uint8Array): string {
  return Buffer.from(content.buffer, content.byteOffset, content.byteLength).toString('utf8')
}
