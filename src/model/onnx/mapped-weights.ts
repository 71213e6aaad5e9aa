/** Whether the weights of a graph can be mapped from a file in the layout of the kernels. */
import { Message } from './onnx-schema.js'

/** Operators with whose prepacked, mapped weights onnxruntime 1.30 crashes. */
const NOT_PREPACKED = ['MatMulNBits', 'MatMulInteger']
/** Larger weights of a cached graph are mapped from a file. Bytes. */
export const MIN_MAPPED_BYTES = 1024
/** TensorProto.DataType.FLOAT, FLOAT16; the latter is cast when the graph is optimised. */
const FLOATS = new Set([1, 10])
const FLOAT_BYTES = 4
/** The kernels read whole vectors, of 64 bytes with AVX-512. */
const ALIGNMENT = 64

/**
 * onnxruntime 1.30 writes mapped weights one behind the other. After one whose length is no
 * multiple of `ALIGNMENT`, such as a bias of 30,522 words, the kernels read the next ones at odd
 * addresses and crash.
 * @throws BundleError naming `file` when the bytes are not a protocol buffer
 */
export function canPrepack(bytes: Uint8Array, file: string): boolean {
  const content = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (NOT_PREPACKED.some((operator) => content.includes(operator))) return false
  const graphs = new Message(bytes, file).messages('graph')
  return graphs.flatMap((graph) => graph.messages('initializer')).every(keepsAlignment)
}

function keepsAlignment(tensor: Message): boolean {
  if (!FLOATS.has(tensor.number('data_type') ?? 0)) return true
  let length = FLOAT_BYTES
  for (const field of tensor.fields())
    if (field.name === 'dims' && 'value' in field) length *= field.value
  return length < MIN_MAPPED_BYTES || length % ALIGNMENT === 0
}
