/**
 * Whether a graph computes in half precision (float16). On the CPU provider such a graph crashed
 * the process or took twice the time.
 *
 * Weights may be stored as float16 if they are cast, or looked up and cast, before they are used:
 * that is a graph of single precision in a smaller file.
 */
import { fieldsOf, type Field } from './protocol-buffer.js'

/** TensorProto.DataType.FLOAT16 */
const FLOAT16 = 10
/** Operators that read a float16 weight without computing in float16. */
const MOVING = new Set(['Cast', 'Gather', 'Identity'])

/** Field numbers of onnx.proto. */
const MODEL = { graph: 7, function: 25 }
const GRAPH = { node: 1, initializer: 5 }
const FUNCTION = { node: 7 }
const NODE = { input: 1, output: 2, operator: 4, attribute: 5 }
const ATTRIBUTE = { name: 1, number: 3, tensor: 5, graph: 6 }
const TENSOR = { type: 2, name: 8 }

/** @throws BundleError naming `file` when the bytes are not a protocol buffer */
export function computesInHalf(bytes: Uint8Array, file: string): boolean {
  const all = (message: Uint8Array, field: number): Uint8Array[] =>
    [...fieldsOf(message, file)].flatMap((found) =>
      found.field === field && 'content' in found ? [found.content] : [],
    )
  const words = (message: Uint8Array, field: number): string[] =>
    all(message, field).map((content) => Buffer.from(content).toString('utf8'))
  const number = (message: Uint8Array, field: number): number | undefined =>
    [...fieldsOf(message, file)].find(
      (found): found is Extract<Field, { value: number }> =>
        found.field === field && 'value' in found,
    )?.value

  const isHalf = (tensor: Uint8Array): boolean => number(tensor, TENSOR.type) === FLOAT16

  /** @param half - names of the float16 weights that the nodes can see */
  const inNodes = (nodes: readonly Uint8Array[], half: ReadonlySet<string>): boolean => {
    const seen = new Set(half)
    return nodes.some((node) => {
      const [operator = ''] = words(node, NODE.operator)
      const attributes = all(node, NODE.attribute)
      if (
        operator === 'Constant' &&
        attributes.some((attribute) => all(attribute, ATTRIBUTE.tensor).some(isHalf))
      ) {
        for (const name of words(node, NODE.output)) seen.add(name)
        return false
      }
      const toHalf = attributes.some(
        (attribute) =>
          words(attribute, ATTRIBUTE.name)[0] === 'to' &&
          number(attribute, ATTRIBUTE.number) === FLOAT16,
      )
      if (operator === 'Cast' && toHalf) return true
      if (!MOVING.has(operator) && words(node, NODE.input).some((name) => seen.has(name)))
        return true
      return attributes.some((attribute) =>
        all(attribute, ATTRIBUTE.graph).some((graph) => inGraph(graph, seen)),
      )
    })
  }
  const inGraph = (graph: Uint8Array, outer: ReadonlySet<string>): boolean => {
    const weights = all(graph, GRAPH.initializer).filter(isHalf)
    return inNodes(
      all(graph, GRAPH.node),
      new Set([...outer, ...weights.flatMap((tensor) => words(tensor, TENSOR.name))]),
    )
  }
  return (
    all(bytes, MODEL.graph).some((graph) => inGraph(graph, new Set())) ||
    all(bytes, MODEL.function).some((made) => inNodes(all(made, FUNCTION.node), new Set()))
  )
}
