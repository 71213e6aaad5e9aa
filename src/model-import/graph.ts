/** ONNX graphs as objects: reads, edits and writes them by ONNX's own schema. */
import { open } from 'node:fs/promises'
import { basename } from 'node:path'
import { BundleError } from '../model/bundle/bundle.js'
import { checkGraphFile } from '../model/onnx/graph-file.js'
import { MODEL } from '../model/onnx/onnx-schema.js'
import { readSlim, writeWhole, type Place } from './graph-bytes.js'
import { sideFile } from './side-file.js'

/** TensorProto.DataType */
export const TYPE = { float: 1, uint8: 2, int8: 3, int32: 6, int64: 7, bool: 9, half: 10 } as const
/** Bytes of an element, for the types of weights. */
const ELEMENT_BYTES: Readonly<Record<number, number>> = {
  1: 4,
  2: 1,
  3: 1,
  4: 2,
  5: 2,
  6: 4,
  7: 8,
  9: 1,
  10: 2,
  11: 8,
  12: 4,
  13: 8,
  16: 2,
  17: 1,
  18: 1,
}
const ATTRIBUTE = { float: 1, int: 2, graph: 5, ints: 7 }
const EXTERNAL = 1
const GRAPH = MODEL.root.lookupType('onnx.GraphProto')
const TENSOR = MODEL.root.lookupType('onnx.TensorProto')
/** A protocol buffer has less than 2 GiB. */
const MAX_FILE_BYTES = 2 ** 31 - 2 ** 20
/** Versions of the operators between which the nodes that an import adds mean the same. */
const MIN_OPSET = 11
const MAX_OPSET = 23

type Whole = number | { toNumber(): number }

export interface Tensor {
  name?: string
  dims?: Whole[]
  data_type?: number
  raw_data?: Uint8Array
  data_location?: number
  external_data?: { key?: string; value?: string }[]
  /** Where `raw_data` lies, if it is not read. */
  place?: Place
}

export interface Attribute {
  name: string
  type?: number
  i?: Whole
  f?: number
  ints?: Whole[]
  g?: Graph
  graphs?: Graph[]
  t?: Tensor
  tensors?: Tensor[]
}

export interface Node {
  input: string[]
  output: string[]
  op_type: string
  domain?: string
  name?: string
  attribute?: Attribute[]
}

export interface Value {
  name: string
  type?: {
    tensor_type?: {
      elem_type?: number
      shape?: { dim?: { dim_value?: Whole; dim_param?: string }[] }
    }
  }
}

export interface Graph {
  name?: string
  node: Node[]
  initializer?: Tensor[]
  sparse_initializer?: unknown[]
  input: Value[]
  output: Value[]
  value_info?: Value[]
  quantization_annotation?: unknown[]
}

export interface Model {
  ir_version?: Whole
  graph: Graph
  opset_import?: { domain?: string; version?: Whole }[]
  metadata_props?: unknown[]
  functions?: unknown[]
}

/** An input or output; an open axis is null. */
export interface Port {
  name: string
  type: number
  shape: (number | null)[]
}

/**
 * Reads a graph. Its large weights stay in the file, those in side files are not looked at yet.
 * @throws BundleError when the file is no graph, or one that no bundle may have
 */
export async function readGraph(path: string): Promise<Model> {
  const file = basename(path)
  const { bytes, places } = await readSlim(path, file)
  checkGraphFile(bytes, file, true)
  let model: Model
  try {
    model = MODEL.decode(bytes) as unknown as Model
  } catch (error) {
    throw new BundleError(`${file} is not a graph: ${(error as Error).message}.`)
  }
  if (model.graph == null || model.graph.node.length === 0)
    throw new BundleError(`${file} is not a graph: it has no nodes.`)
  for (const [number, place] of places) {
    const tensor = model.graph.initializer?.[number]
    if (tensor !== undefined) tensor.place = place
  }
  model.ir_version = whole(model.ir_version ?? 0)
  const opset = opsetOf(model)
  if (!(opset >= MIN_OPSET && opset <= MAX_OPSET))
    throw new BundleError(`${file} has the opset ${opset}; expected ${MIN_OPSET} to ${MAX_OPSET}.`)
  return model
}

/** Version of ONNX's own operators; NaN if the file names none. */
export function opsetOf({ opset_import: sets = [] }: Model): number {
  const own = sets.find(({ domain = '' }) => domain === '' || domain === 'ai.onnx')
  return own?.version === undefined ? Number.NaN : whole(own.version)
}

/** Inputs that no weight fills. */
export function inputsOf({ graph }: Model): Port[] {
  const weights = new Set((graph.initializer ?? []).map(({ name }) => name))
  return graph.input.filter(({ name }) => !weights.has(name)).map(portOf)
}

export function outputsOf({ graph }: Model): Port[] {
  return graph.output.map(portOf)
}

function portOf({ name, type }: Value): Port {
  const { elem_type = 0, shape } = type?.tensor_type ?? {}
  return {
    name,
    type: elem_type,
    shape: (shape?.dim ?? []).map(({ dim_value: size }) => {
      const length = size == null ? 0 : whole(size)
      return length > 0 ? length : null
    }),
  }
}

/** Keeps what one output needs; intermediate shapes go, since they may name a fixed batch. */
export function prune(graph: Graph, output: string): Graph {
  const makers = new Map(graph.node.flatMap((node) => node.output.map((name) => [name, node])))
  const nodes = new Set<Node>()
  const names = new Set<string>()
  const waiting = [output]
  for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
    if (names.has(name)) continue
    names.add(name)
    const node = makers.get(name)
    if (node === undefined || nodes.has(node)) continue
    nodes.add(node)
    waiting.push(...namesRead(node))
  }
  return {
    name: graph.name ?? 'graph',
    node: graph.node.filter((node) => nodes.has(node)),
    initializer: (graph.initializer ?? []).filter(({ name = '' }) => names.has(name)),
    ...(graph.sparse_initializer !== undefined && { sparse_initializer: graph.sparse_initializer }),
    input: graph.input.filter(({ name }) => names.has(name)),
    output: graph.output.filter(({ name }) => name === output),
  }
}

/** Inputs of a node, and every name that graphs inside it read. */
function namesRead({ input, attribute = [] }: Node): string[] {
  const inner = attribute.flatMap(({ g, graphs = [] }) => [...(g == null ? [] : [g]), ...graphs])
  return [
    ...input,
    ...inner.flatMap(({ node, output }) => [
      ...node.flatMap(namesRead),
      ...output.map(({ name }) => name),
    ]),
  ].filter((name) => name !== '')
}

/** Puts `prefix` before every name, so that the names of a bundle are free. */
export function prefixNames(graph: Graph, prefix: string): void {
  const renamed = (name: string): string => (name === '' ? '' : prefix + name)
  for (const value of [...graph.input, ...graph.output, ...(graph.value_info ?? [])])
    value.name = renamed(value.name)
  for (const tensor of graph.initializer ?? []) tensor.name = renamed(tensor.name ?? '')
  for (const node of graph.node) {
    // Two nodes with one name are refused by the runtime.
    node.name = renamed(node.name ?? '')
    node.input = node.input.map(renamed)
    node.output = node.output.map(renamed)
    for (const { g, graphs = [] } of node.attribute ?? []) {
      if (g != null) prefixNames(g, prefix)
      for (const inner of graphs) prefixNames(inner, prefix)
    }
  }
}

/**
 * Checks the weights that lie in files beside the graph, and makes them weights of the graph
 * itself.
 * @param folder - of the graph
 * @throws BundleError for a name that leads out of the folder, or bytes that are not in the file
 */
export async function inlineWeights(graph: Graph, folder: string, file: string): Promise<void> {
  const own = new Set(graph.initializer)
  for (const tensor of tensorsOf(graph)) {
    if (tensor.data_location !== EXTERNAL && (tensor.external_data ?? []).length === 0) continue
    const weight = `${file}: the weight ${tensor.name ?? ''}`
    const entries = new Map((tensor.external_data ?? []).map(({ key, value }) => [key, value]))
    const path = await sideFile(folder, entries.get('location') ?? '', weight)
    const handle = await open(path)
    try {
      const { size } = await handle.stat()
      const [offset, length] = [
        Number(entries.get('offset') ?? 0),
        Number(entries.get('length') ?? bytesOf(tensor)),
      ]
      const isInside = [offset, length].every((n) => Number.isSafeInteger(n) && n >= 0)
      if (!isInside || offset + length > size)
        throw new BundleError(
          `${weight} lies at ${offset} to ${offset + length} of ${basename(path)}, which has ${size} bytes.`,
        )
      if (length !== bytesOf(tensor))
        throw new BundleError(
          `${weight} has ${length} bytes in ${basename(path)}; its shape needs ${bytesOf(tensor)}.`,
        )
      tensor.data_location = 0
      tensor.external_data = []
      if (own.has(tensor)) {
        tensor.place = { path, offset, length }
        continue
      }
      const bytes = Buffer.allocUnsafeSlow(length)
      const { bytesRead } = await handle.read(bytes, 0, length, offset)
      if (bytesRead < length) throw new BundleError(`${basename(path)} ends within ${weight}.`)
      tensor.raw_data = bytes
    } finally {
      await handle.close()
    }
  }
}

function* tensorsOf(graph: Graph): Generator<Tensor> {
  yield* graph.initializer ?? []
  for (const { attribute = [] } of graph.node) {
    for (const { t, tensors = [], g, graphs = [] } of attribute) {
      if (t != null) yield t
      yield* tensors
      for (const inner of [...(g == null ? [] : [g]), ...graphs]) yield* tensorsOf(inner)
    }
  }
}

function bytesOf({ dims = [], data_type: type = 0 }: Tensor): number {
  const count = dims.reduce<number>((product, size) => product * whole(size), 1)
  return count * (ELEMENT_BYTES[type] ?? Number.NaN)
}

/**
 * @param file - the name in errors
 * @throws BundleError when the file would be larger than a protocol buffer may be
 */
export async function writeModel(into: string, model: Model, file: string): Promise<void> {
  let bytes = 0
  for (const { raw_data: raw, place } of tensorsOf(model.graph))
    bytes += place?.length ?? raw?.length ?? 0
  if (bytes > MAX_FILE_BYTES) {
    throw new BundleError(
      `${file} would have ${(bytes / 2 ** 30).toFixed(1)} GiB; an ONNX file holds 2 GiB. Take a smaller variant, such as --variant int8.`,
    )
  }
  const { graph, ...rest } = model
  const initializers = graph.initializer ?? []
  await writeWhole(into, {
    head: MODEL.encode(rest).finish(),
    graph: GRAPH.encode({
      ...graph,
      initializer: initializers.filter(({ place }) => place === undefined),
    }).finish(),
    weights: initializers.flatMap(({ name = '', dims = [], data_type, place }) =>
      place === undefined
        ? []
        : [{ tensor: TENSOR.encode({ name, dims, data_type }).finish(), place }],
    ),
  })
}

export function whole(value: Whole): number {
  return typeof value === 'number' ? value : value.toNumber()
}

export function node(
  op_type: string,
  input: string[],
  output: string,
  attribute: Attribute[] = [],
): Node {
  return { op_type, input, output: [output], name: output, attribute }
}

export const attribute = {
  int: (name: string, i: number): Attribute => ({ name, type: ATTRIBUTE.int, i }),
  ints: (name: string, ints: number[]): Attribute => ({ name, type: ATTRIBUTE.ints, ints }),
  graph: (name: string, g: Graph): Attribute => ({ name, type: ATTRIBUTE.graph, g }),
}

export function floats(name: string, dims: number[], values: readonly number[]): Tensor {
  return { name, dims, data_type: TYPE.float, raw_data: raw(Float32Array.from(values)) }
}

export function integers(name: string, dims: number[], values: readonly number[]): Tensor {
  return { name, dims, data_type: TYPE.int64, raw_data: raw(BigInt64Array.from(values, BigInt)) }
}

function raw({ buffer, byteOffset, byteLength }: Float32Array | BigInt64Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength)
}

export function value(name: string, elem_type: number, shape: (number | string)[]): Value {
  const dim = shape.map((size) =>
    typeof size === 'string' ? { dim_param: size } : { dim_value: size },
  )
  return { name, type: { tensor_type: { elem_type, shape: { dim } } } }
}
