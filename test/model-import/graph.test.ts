import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { MODEL } from '../../src/model/onnx/onnx-schema.js'
import {
  attribute,
  inlineWeights,
  node,
  prefixNames,
  readGraph,
  TYPE,
  value,
  writeModel,
  type Graph,
  type Model,
} from '../../src/model-import/graph.js'

let folder = ''
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'tandem-graph-'))))
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 7) % 251)

function modelOf(): Model {
  const weight = (name: string, length: number) => ({
    ...{ name, dims: [length / 4], data_type: TYPE.float },
    raw_data: bytes(length),
  })
  return {
    ir_version: 10,
    opset_import: [{ domain: '', version: 17 }],
    graph: {
      name: 'graph',
      input: [value('x', TYPE.float, ['b', 4])],
      output: [value('embedding', TYPE.float, ['b', 4])],
      initializer: [weight('large', 8192), weight('small', 16), weight('larger', 40_000)],
      node: [node('Add', ['x', 'small'], 'sum'), node('Identity', ['sum'], 'embedding')],
    },
  }
}

function written(model: Model, name = 'model.onnx'): string {
  writeFileSync(join(folder, name), MODEL.encode(model).finish())
  return join(folder, name)
}

const wholeModel = (path: string): Model => MODEL.decode(readFileSync(path)) as unknown as Model

it('A graph is written as it was read, and its large weights are not in memory between', async () => {
  const model = await readGraph(written(modelOf()))
  const weights = model.graph.initializer ?? []
  expect(weights.map(({ place }) => place?.length)).toEqual([8192, undefined, 40_000])
  expect(weights.map(({ raw_data: raw }) => raw?.length ?? 0)).toEqual([0, 16, 0])
  await writeModel(join(folder, 'copy.onnx'), model, 'copy.onnx')
  const { graph } = wholeModel(join(folder, 'copy.onnx'))
  const found = new Map(graph.initializer?.map(({ name, raw_data: raw }) => [name, raw]))
  expect([...found.keys()].sort()).toEqual(['large', 'larger', 'small'])
  for (const { name, raw_data: raw } of modelOf().graph.initializer ?? [])
    expect(Buffer.from(found.get(name) ?? [])).toEqual(Buffer.from(raw ?? []))
  expect(graph.node.map(({ op_type: type }) => type)).toEqual(['Add', 'Identity'])
  expect(graph.input[0]?.name).toBe('x')
})

it('Weights of a side file become weights of the graph', async () => {
  writeFileSync(join(folder, 'side'), Buffer.concat([Buffer.alloc(100), bytes(8192)]))
  const model = modelOf()
  const [weight] = model.graph.initializer ?? []
  if (weight === undefined) throw new Error('the model has no weight')
  delete weight.raw_data
  Object.assign(weight, {
    data_location: 1,
    external_data: [
      { key: 'location', value: 'side' },
      { key: 'offset', value: '100' },
      { key: 'length', value: '8192' },
    ],
  })
  const read = await readGraph(written(model))
  await inlineWeights(read.graph, folder, 'model.onnx')
  await writeModel(join(folder, 'copy.onnx'), read, 'copy.onnx')
  const large = wholeModel(join(folder, 'copy.onnx')).graph.initializer?.find(
    ({ name }) => name === 'large',
  )
  expect(Buffer.from(large?.raw_data ?? [])).toEqual(Buffer.from(bytes(8192)))
  expect(large?.external_data ?? []).toEqual([])
})

it('A file that ends within a weight or has two graphs is refused', async () => {
  const whole = readFileSync(written(modelOf()))
  for (const length of [whole.length - 1, 9000, 30, 3]) {
    writeFileSync(join(folder, 'cut.onnx'), whole.subarray(0, length))
    await expect(readGraph(join(folder, 'cut.onnx'))).rejects.toThrow(/cut off|not an ONNX file/)
  }
  writeFileSync(join(folder, 'twice.onnx'), Buffer.concat([whole, whole]))
  await expect(readGraph(join(folder, 'twice.onnx'))).rejects.toThrow(/two graphs/)
})

it('Every name of a graph gets the prefix, those of nodes and of graphs inside too', () => {
  const { graph } = modelOf()
  const inner: Graph = {
    name: 'inner',
    node: [node('Identity', ['sum'], 'embedding')],
    input: [],
    output: [value('embedding', TYPE.float, ['b', 4])],
  }
  graph.node.push(node('If', ['small'], 'chosen', [attribute.graph('then_branch', inner)]))
  prefixNames(graph, 'model/')
  const all = [...graph.node, ...inner.node]
  const names = all.flatMap(({ name = '', input, output }) => [name, ...input, ...output])
  expect(names.filter((name) => !name.startsWith('model/'))).toEqual([])
})
