/**
 * What a graph file may hold, checked before the runtime reads it: weights inside the file, operators that the runtime
 * has. A graph with external data would read whatever file it names, wherever the service was started.
 *
 * An ONNX file is a protocol buffer; this walks through the few messages that can hold a tensor or an operator.
 */
import { BundleError } from './bundle-error.js'

const DOMAINS = new Set(['', 'ai.onnx', 'com.microsoft'])

type Message = 'model' | 'graph' | 'node' | 'attribute' | 'tensor' | 'sparseTensor' | 'function'

/** Field number → the message in it (onnx.proto). Other fields are passed over. */
const NESTED: Readonly<Record<Message, Readonly<Record<number, Message>>>> = {
  model: { 7: 'graph', 25: 'function' },
  graph: { 1: 'node', 5: 'tensor', 15: 'sparseTensor' },
  node: { 5: 'attribute' },
  attribute: { 5: 'tensor', 6: 'graph', 10: 'tensor', 11: 'graph', 22: 'sparseTensor', 23: 'sparseTensor' },
  sparseTensor: { 1: 'tensor', 2: 'tensor' },
  function: { 7: 'node' },
  tensor: {},
}

const NODE_OPERATOR = 4
const NODE_DOMAIN = 7
const TENSOR_EXTERNAL_DATA = 13
/** Operators of the domains above that run what lies in another file. */
const OUTSIDE_OPERATORS = new Set(['EPContext'])
/** Beyond this a reader of protocol buffers drops the upper bits of a field's key: it would see another field than we. */
const KEY_LIMIT = 2 ** 32
/** Messages within one another: more than a graph needs, fewer than make recursion fail. */
const MOST_LEVELS = 100

/** @throws BundleError naming `file` for external data, foreign operators, and bytes that are no protocol buffer */
export function checkGraphFile(bytes: Uint8Array, file: string): void {
  // The runtime would take these four letters for a format of its own, whatever the rest says.
  if (Buffer.from(bytes.subarray(4, 8)).toString('latin1') === 'ORTM') {
    throw new BundleError(`${file} is not a graph that can be run: it is of the runtime's own format; expected ONNX.`)
  }
  walk(bytes, 'model', file, 0)
}

function walk(bytes: Uint8Array, message: Message, file: string, level: number): void {
  if (level > MOST_LEVELS) throw new BundleError(`${file} is not a graph that can be run: it is nested too deeply.`)
  for (const { field, content } of fieldsOf(bytes, file)) {
    if (message === 'tensor' && field === TENSOR_EXTERNAL_DATA) {
      throw new BundleError(`${file} keeps weights in another file; a bundle holds them inside the graph.`)
    }
    if (message === 'node' && field === NODE_DOMAIN) {
      const domain = Buffer.from(content).toString('utf8')
      if (!DOMAINS.has(domain)) throw new BundleError(`${file} uses operators of "${domain}", which are not run.`)
    }
    if (message === 'node' && field === NODE_OPERATOR) {
      const operator = Buffer.from(content).toString('utf8')
      if (OUTSIDE_OPERATORS.has(operator)) {
        throw new BundleError(`${file} uses the operator ${operator}, which runs what lies outside of the graph.`)
      }
    }
    const nested = NESTED[message][field]
    if (nested !== undefined) walk(content, nested, file, level + 1)
  }
}

/** The length-delimited fields of a message; numbers are passed over. */
function* fieldsOf(bytes: Uint8Array, file: string): Generator<{ field: number; content: Uint8Array }> {
  let at = 0
  const varint = (): number => {
    let value = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at]
      at += 1
      if (byte === undefined || scale > 2 ** 63) throw new BundleError(`${file} is not a graph that can be run: it is cut off.`)
      value += (byte & 127) * scale
      if (byte < 128) return value
    }
  }
  while (at < bytes.length) {
    const key = varint()
    if (key >= KEY_LIMIT) throw new BundleError(`${file} is not a graph that can be run: it is not an ONNX file.`)
    const field = Math.floor(key / 8)
    const wire = key % 8
    if (wire === 0) varint()
    else if (wire === 1) at += 8
    else if (wire === 5) at += 4
    else if (wire === 2) {
      const length = varint()
      if (length > bytes.length - at) throw new BundleError(`${file} is not a graph that can be run: it is cut off.`)
      yield { field, content: bytes.subarray(at, at + length) }
      at += length
    } else throw new BundleError(`${file} is not a graph that can be run: it is not an ONNX file.`)
  }
}
