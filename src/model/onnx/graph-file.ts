/**
 * Checks an ONNX file before the runtime reads it: all weights inside the file, only operators of
 * the runtime. A graph with external data could read any file of the machine.
 */
import { BundleError } from '../bundle/bundle.js'
import { Message, textOf } from './onnx-schema.js'

const DOMAINS = new Set(['', 'ai.onnx', 'com.microsoft'])
/** Operators of these domains that run code or graphs of another file. */
const OUTSIDE_OPERATORS = new Set(['EPContext'])
/** Messages in one another: more than a graph needs, and less than recursion handles. */
const MAX_LEVELS = 100

/**
 * @param mayHaveOutsideWeights - for a caller that checks their files itself
 * @throws BundleError naming `file` for external data, custom operators, and bytes that are not a
 *   protocol buffer
 */
export function checkGraphFile(
  bytes: Uint8Array,
  file: string,
  mayHaveOutsideWeights = false,
): void {
  // These four bytes make the runtime read its own format instead of ONNX.
  if (textOf(bytes.subarray(4, 8)) === 'ORTM') {
    throw new BundleError(
      `${file} is not a graph that can be run: it is in the format of the runtime; expected ONNX.`,
    )
  }
  walk(new Message(bytes, file), { file, mayHaveOutsideWeights }, 0)
}

interface Rules {
  file: string
  mayHaveOutsideWeights: boolean
}

function walk(message: Message, rules: Rules, level: number): void {
  const { file, mayHaveOutsideWeights } = rules
  if (level > MAX_LEVELS)
    throw new BundleError(`${file} is not a graph that can be run: it is nested too deeply.`)
  const kind = message.type.name
  for (const field of message.fields()) {
    if (kind === 'TensorProto' && field.name === 'external_data' && !mayHaveOutsideWeights) {
      throw new BundleError(
        `${file} has weights in another file; expected all weights inside the graph.`,
      )
    }
    if (kind === 'NodeProto' && 'content' in field) checkNode(field.name, field.content, file)
    if ('message' in field) walk(field.message, rules, level + 1)
  }
}

function checkNode(field: string | undefined, content: Uint8Array, file: string): void {
  if (field === 'domain') {
    const domain = textOf(content)
    if (!DOMAINS.has(domain))
      throw new BundleError(`${file} uses operators of "${domain}", which are not allowed.`)
  }
  if (field === 'op_type') {
    const operator = textOf(content)
    if (OUTSIDE_OPERATORS.has(operator))
      throw new BundleError(`${file} uses the operator ${operator}, which runs another file.`)
  }
}
