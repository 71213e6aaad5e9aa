/**
 * Puts a foreign graph behind the contract of a bundle (docs/bundles.md): bytes or token ids in, an
 * L2-normalised embedding out.
 */
import type { Normalisation } from './foreign.js'
import {
  attribute,
  floats,
  integers,
  node,
  opsetOf,
  prefixNames,
  prune,
  TYPE,
  value,
  whole,
  type Graph,
  type Model,
  type Node,
  type Port,
  type Tensor,
} from './graph.js'

export interface ImagePorts {
  input: Port
  output: string
  /** Side of the square. */
  size: number
}

export interface TextPorts {
  ids: Port
  mask: Port | null
  output: string
  /** Id of padding. */
  padding: number
  /** Number of tokens that texts are padded to; null where padding has no effect. */
  length: number | null
}

/** Names of a foreign graph begin with this, so that those of the contract are free. */
const PREFIX = 'model/'
const EPSILON = 1e-12
/** Before it an axis is an attribute of a reduction. */
const AXES_AS_INPUT = 18
/** Without it weights have to be inputs too. */
const MIN_IR_VERSION = 4

/**
 * @param rowByRow - runs the graph for one image at a time, for a graph that takes no batches or
 *   whose images influence each other
 */
export function wrapImage(
  model: Model,
  { input, output, size }: ImagePorts,
  normalisation: Normalisation,
  dim: number,
  rowByRow: boolean,
): Model {
  const { rescale, mean, deviation } = normalisation
  const nodes: Node[] = []
  const weights: Tensor[] = []
  let feed = 'pixels'
  let row = [size, size, 3]
  if (input.type !== TYPE.uint8) {
    weights.push(
      floats(
        'scale',
        [1, 3, 1, 1],
        deviation.map((one) => rescale / one),
      ),
      floats(
        'shift',
        [1, 3, 1, 1],
        mean.map((one, i) => one / (deviation[i] ?? 1)),
      ),
    )
    nodes.push(
      node('Cast', ['pixels'], 'pixels/float', [attribute.int('to', TYPE.float)]),
      node('Transpose', ['pixels/float'], 'pixels/planes', [attribute.ints('perm', [0, 3, 1, 2])]),
      node('Mul', ['pixels/planes', 'scale'], 'pixels/scaled'),
      node('Sub', ['pixels/scaled', 'shift'], 'pixels/normalised'),
    )
    feed = 'pixels/normalised'
    row = [3, size, size]
  }
  const inner: Inner = { feeds: [{ name: feed, input, row }], output, dim, rowByRow }
  const inputs = [value('pixels', TYPE.uint8, ['b', size, size, 3])]
  return wrapped(model, inner, { inputs, nodes, weights })
}

/** @param rowByRow - as in `wrapImage` */
export function wrapText(
  model: Model,
  { ids, mask, output, padding, length }: TextPorts,
  dim: number,
  rowByRow: boolean,
): Model {
  const weights = [integers('padding', [], [padding])]
  const nodes = [
    node('Cast', ['attention_mask'], 'is_token', [attribute.int('to', TYPE.bool)]),
    node('Where', ['is_token', 'token_ids', 'padding'], 'ids/filled'),
  ]
  let [allIds, allMask] = ['ids/filled', 'attention_mask']
  if (length !== null) {
    weights.push(
      integers('second', [1], [1]),
      integers('length', [1], [length]),
      integers('before', [3], [0, 0, 0]),
      integers('unmasked', [], [0]),
    )
    nodes.push(
      node('Shape', ['token_ids'], 'ids/shape'),
      node('Gather', ['ids/shape', 'second'], 'ids/length'),
      node('Sub', ['length', 'ids/length'], 'ids/rest'),
      node('Concat', ['before', 'ids/rest'], 'ids/pads', [attribute.int('axis', 0)]),
      node('Pad', [allIds, 'ids/pads', 'padding'], 'ids/padded'),
      node('Pad', [allMask, 'ids/pads', 'unmasked'], 'mask/padded'),
    )
    allIds = 'ids/padded'
    allMask = 'mask/padded'
  }
  const cast = (name: string, port: Port): string => {
    if (port.type === TYPE.int64) return name
    nodes.push(node('Cast', [name], `${name}/cast`, [attribute.int('to', port.type)]))
    return `${name}/cast`
  }
  const row = [length ?? -1]
  const feeds = [{ name: cast(allIds, ids), input: ids, row }]
  if (mask !== null) feeds.push({ name: cast(allMask, mask), input: mask, row })
  const inputs = ['token_ids', 'attention_mask'].map((name) => value(name, TYPE.int64, ['b', 't']))
  return wrapped(model, { feeds, output, dim, rowByRow }, { inputs, nodes, weights })
}

/** How the foreign graph is fed and read. */
interface Inner {
  /** Values, the inputs that they feed, and the shape of one row. */
  feeds: { name: string; input: Port; row: readonly number[] }[]
  output: string
  dim: number
  rowByRow: boolean
}

interface Outer {
  inputs: Graph['input']
  nodes: Node[]
  weights: Tensor[]
}

function wrapped(
  model: Model,
  { feeds, output, dim, rowByRow }: Inner,
  { inputs, nodes, weights }: Outer,
): Model {
  const opset = opsetOf(model)
  const graph = prune(model.graph, output)
  prefixNames(graph, PREFIX)
  const raw = PREFIX + output
  const body: Node[] = []
  const entry = (place: number): string => `row/${place}`
  if (rowByRow) {
    // Scan takes the axis of the batch away and puts it back.
    const rows = feeds.map(({ input, row }, place) =>
      value(
        entry(place),
        input.type,
        row.map((size) => (size < 0 ? 't' : size)),
      ),
    )
    const steps = feeds.map(({ input, row }, place) => {
      weights.push(integers(`row/shape/${place}`, [row.length + 1], [1, ...row]))
      return node('Reshape', [entry(place), `row/shape/${place}`], PREFIX + input.name)
    })
    weights.push(integers('row/width', [1], [dim]))
    const last = node('Reshape', [raw, 'row/width'], 'row/embedding')
    const one: Graph = {
      name: 'row',
      node: [...steps, ...graph.node, last],
      input: rows,
      output: [value('row/embedding', TYPE.float, [dim])],
    }
    body.push(
      node(
        'Scan',
        feeds.map(({ name }) => name),
        'rows',
        [attribute.graph('body', one), attribute.int('num_scan_inputs', feeds.length)],
      ),
    )
  } else {
    body.push(...feeds.map(({ name, input }) => node('Identity', [name], PREFIX + input.name)))
    body.push(...graph.node)
  }
  weights.push(floats('least', [], [EPSILON]))
  const axes = opset < AXES_AS_INPUT ? [attribute.ints('axes', [1])] : []
  if (opset >= AXES_AS_INPUT) weights.push(integers('axis', [1], [1]))
  const source = rowByRow ? 'rows' : raw
  const end = [
    node('ReduceL2', axes.length > 0 ? [source] : [source, 'axis'], 'norm', [
      ...axes,
      attribute.int('keepdims', 1),
    ]),
    node('Max', ['norm', 'least'], 'norm/safe'),
    node('Div', [source, 'norm/safe'], 'embedding'),
  ]
  return {
    ...model,
    ir_version: Math.max(whole(model.ir_version ?? 0), MIN_IR_VERSION),
    metadata_props: [],
    graph: {
      ...graph,
      node: [...nodes, ...body, ...end],
      initializer: [...(graph.initializer ?? []), ...weights],
      input: inputs,
      output: [value('embedding', TYPE.float, ['b', dim])],
    },
  }
}
