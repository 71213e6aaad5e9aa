/**
 * Memory of `tandem models add`: a model with random weights whose text encoder has most of them.
 *
 *   node --import ./test/support/run-source.mjs bench/models/add-memory.ts [megabytes]
 *
 * Prints the highest memory of all processes, and the same for a model of a megabyte.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MODEL } from '../../src/model/onnx/onnx-schema.js'
import {
  attribute,
  node,
  TYPE,
  value,
  type Model,
  type Tensor,
} from '../../src/model-import/graph.js'
import { memoryOf } from '../../test/support/process-memory.js'
import { makeImmichFolder } from '../../test/support/immich-folder.js'
import { randomNumbers } from '../../test/support/random-embeddings.js'

const MEGABYTE = 2 ** 20
const SAMPLE_MS = 20

function weight(name: string, dims: number[]): Tensor {
  const next = randomNumbers(name.length)
  const block = Float32Array.from({ length: 4096 }, () => (next() - 0.5) / 25)
  const data = new Float32Array(dims.reduce((product, size) => product * size, 1))
  for (let at = 0; at < data.length; at += block.length)
    data.set(block.subarray(0, Math.min(block.length, data.length - at)), at)
  const raw_data = new Uint8Array(data.buffer)
  return { name, dims, data_type: TYPE.float, raw_data }
}

function write(path: string, graph: Model['graph']): number {
  const model = { ir_version: 10, opset_import: [{ domain: '', version: 17 }], graph }
  const bytes = MODEL.encode(model).finish()
  writeFileSync(path, bytes)
  return bytes.length
}

/** Half of the weights in a table of tokens, half in products. */
function makeModel(folder: string, megabytes: number): number {
  const width = megabytes > 50 ? 2048 : 64
  const half = (megabytes * MEGABYTE) / 2 / 4
  const products = Array.from({ length: Math.max(1, Math.round(half / width ** 2)) }, (_, i) => i)
  makeImmichFolder(folder)
  const text = write(join(folder, 'textual/model.onnx'), {
    name: 'text',
    input: [value('text', TYPE.int32, ['b', 12])],
    output: [value('embedding', TYPE.float, ['b', width])],
    initializer: [
      weight('table', [Math.round(half / width), width]),
      ...products.map((i) => weight(`product-${i}`, [width, width])),
    ],
    node: [
      node('Gather', ['table', 'text'], 'rows'),
      node('ReduceMean', ['rows'], 'sum-0', [
        attribute.ints('axes', [1]),
        attribute.int('keepdims', 0),
      ]),
      ...products.map((i) =>
        node(
          'MatMul',
          [`sum-${i}`, `product-${i}`],
          i + 1 === products.length ? 'embedding' : `sum-${i + 1}`,
        ),
      ),
    ],
  })
  const image = write(join(folder, 'visual/model.onnx'), {
    name: 'image',
    input: [value('image', TYPE.uint8, ['b', 32, 32, 3])],
    output: [value('embedding', TYPE.float, ['b', width])],
    initializer: [weight('product', [3, width])],
    node: [
      node('Cast', ['image'], 'floats', [attribute.int('to', TYPE.float)]),
      node('ReduceMean', ['floats'], 'mean', [
        attribute.ints('axes', [1, 2]),
        attribute.int('keepdims', 0),
      ]),
      node('MatMul', ['mean', 'product'], 'embedding'),
    ],
  })
  return text + image
}

async function measure(megabytes: number): Promise<Record<string, number>> {
  const scratch = mkdtempSync(join(tmpdir(), 'tandem-add-memory-'))
  try {
    const bytes = makeModel(join(scratch, 'model'), megabytes)
    const child = spawn(
      process.execPath,
      [
        ...['--import', './test/support/run-source.mjs', 'src/cli.ts', 'models', 'add'],
        ...[join(scratch, 'model'), '--into', join(scratch, 'bundles'), '--name', 'made'],
      ],
      { stdio: ['ignore', 'inherit', 'inherit'] },
    )
    const begun = performance.now()
    let [resident, anonymous] = [0, 0]
    const timer = setInterval(() => {
      const memory = memoryOf(child.pid ?? 0)
      resident = Math.max(resident, memory.resident)
      anonymous = Math.max(anonymous, memory.anonymous)
    }, SAMPLE_MS)
    const code = await new Promise<number | null>((done) => child.on('exit', done))
    clearInterval(timer)
    if (code !== 0) throw new Error(`models add ended with ${code}`)
    const seconds = (performance.now() - begun) / 1000
    return { bytes, resident, anonymous, seconds: Number(seconds.toFixed(1)) }
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

const megabytes = Number(process.argv[2] ?? 400)
const small = await measure(1)
const large = await measure(megabytes)
const times = (kind: string): number =>
  Number((((large[kind] ?? 0) - (small[kind] ?? 0)) / (large['bytes'] ?? 1)).toFixed(2))
console.log(
  JSON.stringify(
    {
      small,
      large,
      'resident, without that of the small model, in sizes of the model': times('resident'),
      'anonymous, likewise': times('anonymous'),
    },
    null,
    1,
  ),
)
