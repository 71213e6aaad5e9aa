/**
 * What a graph file may hold, checked before the runtime reads it: weights inside the file,
 * operators that the runtime has. A graph with external data would read whatever file it names,
 * wherever the service was started.
 *
 * An ONNX file is a protocol buffer; this walks through the few messages that can hold a tensor or
 * an operator.
 */
import { BundleError } from '../bundle/bundle.js'
import { fieldsOf } from './protocol-buffer.js'

const DOMAINS = new Set(['', 'ai.onnx', 'com.microsoft'])

type Message = 'model' | 'graph' | 'node' | 'attribute' | 'tensor' | 'sparseTensor' | 'function'

/** Field number → the message in it (onnx.proto). Other fields are passed over. */
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
/** Operators of the domains above that run what lies in another file. */
const OUTSIDE_OPERATORS = new Set(['EPContext'])
/** Messages within one another: more than a graph needs, fewer than make recursion fail. */
const MAX_LEVELS = 100

/**
 * @throws BundleError naming `file` for external data, foreign operators, and bytes that are no
 * protocol buffer
 */
export function checkGraphFile(bytes: Uint8Array, file: string): void {
  // The runtime would take these four letters for a format of its own, whatever the rest says.
  if (Buffer.from(bytes.subarray(4, 8)).toString('latin1') === 'ORTM') {
    throw new BundleError(
      `${file} is not a graph that can be run: it is of the runtime's own format; expected ONNX.`,
    )
  }
  walk(bytes, 'model', file, 0)
}

function walk(bytes: Uint8Array, message: Message, file: string, level: number): void {
  if (level > MAX_LEVELS)
    throw new BundleError(`${file} is not a graph that can be run: it is nested too deeply.`)
  for (const found of fieldsOf(bytes, file)) {
    if (!('content' in found)) continue
    const { field, content } = found
    if (message === 'tensor' && field === TENSOR_EXTERNAL_DATA) {
      throw new BundleError(
        `${file} keeps weights in another file; a bundle holds them inside the graph.`,
      )
    }
    if (message === 'node' && field === NODE_DOMAIN) {
      const domain = Buffer.from(content).toString('utf8')
      if (!DOMAINS.has(domain))
        throw new BundleError(`${file} uses operators of "${domain}", which are not run.`)
    }
    if (message === 'node' && field === NODE_OPERATOR) {
      const operator = Buffer.from(content).toString('utf8')
      if (OUTSIDE_OPERATORS.has(operator)) {
        throw new BundleError(
          `${file} uses the operator ${operator}, which runs what lies outside of the graph.`,
        )
      }
    }
    const nested = NESTED[message][field]
    if (nested !== undefined) walk(content, nested, file, level + 1)
  }
}
