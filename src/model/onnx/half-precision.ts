/**
 * Whether a graph computes in half precision (float16). On the CPU provider such a graph crashed
 * the process or took twice the time.
 *
 * Weights may be stored as float16 if they are cast, or looked up and cast, before they are used:
 * that is a graph of single precision in a smaller file.
 */
import { Message } from './onnx-schema.js'

/** TensorProto.DataType.FLOAT16 */
const FLOAT16 = 10
/** Operators that read a float16 weight without computing in float16. */
const MOVING = new Set(['Cast', 'Gather', 'Identity'])

/** @throws BundleError naming `file` when the bytes are not a protocol buffer */
export function computesInHalf(bytes: Uint8Array, file: string): boolean {
  const model = new Message(bytes, file)
  return (
    model.messages('graph').some((graph) => inGraph(graph, new Set())) ||
    model.messages('functions').some((made) => inNodes(made.messages('node'), new Set()))
  )
}

function inGraph(graph: Message, outer: ReadonlySet<string>): boolean {
  const weights = graph.messages('initializer').filter(isHalf)
  const names = weights.flatMap((tensor) => tensor.texts('name'))
  return inNodes(graph.messages('node'), new Set([...outer, ...names]))
}

/** @param half - names of the float16 weights that the nodes can see */
function inNodes(nodes: readonly Message[], half: ReadonlySet<string>): boolean {
  const seen = new Set(half)
  return nodes.some((node) => {
    const [operator = ''] = node.texts('op_type')
    const attributes = node.messages('attribute')
    if (operator === 'Constant' && attributes.some((one) => one.messages('t').some(isHalf))) {
      for (const name of node.texts('output')) seen.add(name)
      return false
    }
    const toHalf = attributes.some(
      (attribute) => attribute.texts('name')[0] === 'to' && attribute.number('i') === FLOAT16,
    )
    if (operator === 'Cast' && toHalf) return true
    if (!MOVING.has(operator) && node.texts('input').some((name) => seen.has(name))) return true
    return attributes.some((attribute) =>
      attribute.messages('g').some((graph) => inGraph(graph, seen)),
    )
  })
}

function isHalf(tensor: Message): boolean {
  return tensor.number('data_type') === FLOAT16
}
