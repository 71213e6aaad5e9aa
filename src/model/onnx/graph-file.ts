/**
 * Checks an ONNX file before the runtime reads it: all weights inside the file, only operators of
 * the runtime. A graph with external data could read any file of the machine.
 *
 * An ONNX file is a protocol buffer; this walks the messages that can hold a tensor or an operator.
 */
import { BundleError } from '../bundle/bundle.js'
import { fieldsOf } from './protocol-buffer.js'

const DOMAINS = new Set(['', 'ai.onnx', 'com.microsoft'])

type Message = 'model' | 'graph' | 'node' | 'attribute' | 'tensor' | 'sparseTensor' | 'function'

/** Field number → nested message (onnx.proto). Other fields are ignored. */
const NESTED: Readonly<Record<Message, Readonly<Record<number, Message>>>> = {
  model: { 7: 'graph', 25: 'function' },
  graph: { 1: 'node', 5: 'tensor', 15: 'sparseTensor' },
  node: { 5: 'attribute' },
  attribute: {
    5: 'tensor',
    6: 'graph',
    10: 'tensor',
    11: 'graph',
    22: 'sparseTensor',
    23: 'sparseTensor',
  },
  sparseTensor: { 1: 'tensor', 2: 'tensor' },
  function: { 7: 'node' },
  tensor: {},
}

const NODE_OPERATOR = 4
const NODE_DOMAIN = 7
const TENSOR_EXTERNAL_DATA = 13
/** Operators of these domains that run code or graphs of another file. */
const OUTSIDE_OPERATORS = new Set(['EPContext'])
/** Nesting that no graph needs and recursion still handles. */
const MAX_LEVELS = 100

/**
 * @throws BundleError naming `file` for external data, custom operators, and bytes that are not a
 *   protocol buffer
 */
export function checkGraphFile(bytes: Uint8Array, file: string): void {
  // These four bytes make the runtime read its own format instead of ONNX.
  if (Buffer.from(bytes.subarray(4, 8)).toString('latin1') === 'ORTM') {
    throw new BundleError(
      `${file} is not a graph that can be run: it is in the format of the runtime; expected ONNX.`,
    )
  }
  walk(bytes, 'model', file, 0)
}

function walk(bytes: Uint8Array, message: Message, file: string, level: number): void {
  if (level > MAX_LEVELS)
    throw new BundleError(`${file} is not a graph that can be run: it is nested too deeply.`)
  for (const entry of fieldsOf(bytes, file)) {
    if (!('content' in entry)) continue
    const { field, content } = entry
    if (message === 'tensor' && field === TENSOR_EXTERNAL_DATA) {
      throw new BundleError(
        `${file} has weights in another file; expected all weights inside the graph.`,
      )
    }
    if (message === 'node' && field === NODE_DOMAIN) {
      const domain = Buffer.from(content).toString('utf8')
      if (!DOMAINS.has(domain))
        throw new BundleError(`${file} uses operators of "${domain}", which are not allowed.`)
    }
    if (message === 'node' && field === NODE_OPERATOR) {
      const operator = Buffer.from(content).toString('utf8')
      if (OUTSIDE_OPERATORS.has(operator)) {
        throw new BundleError(`${file} uses the operator ${operator}, which runs another file.`)
      }
    }
    const nested = NESTED[message][field]
    if (nested !== undefined) walk(content, nested, file, level + 1)
  }
}
