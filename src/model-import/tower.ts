/**
 * Turns one graph of a foreign model into a graph of a bundle, and shows that both give the same
 * embeddings.
 */
import { basename, dirname, join } from 'node:path'
import { BundleError } from '../model/bundle/bundle.js'
import type { GraphSpec, Tensor, Tensors } from '../model/onnx/graph-inputs.js'
import {
  inlineWeights,
  inputsOf,
  outputsOf,
  prune,
  readGraph,
  TYPE,
  writeModel,
  type Model,
  type Port,
} from './graph.js'
import { leastCosine, type GraphRunner } from './graph-runner.js'

/** Cosine between the embeddings of the original graph and of the bundle's, at least. */
const MIN_COSINE = 0.9999
/** Rows of the batches in which the golden inputs are run. */
const BATCHES = [1, 3, 5]

/** A graph of a folder, as its file declares it. */
export interface Tower {
  path: string
  file: string
  inputs: Port[]
  /** The output that is the embedding. */
  output: string
  /** Whether the graph also takes inputs on which the output does not depend. */
  isPart: boolean
}

/** What a graph became. */
export interface Converted {
  /** The embeddings of the original graph, L2-normalised. */
  embeddings: Float64Array[]
  dim: number
  /** Least cosine between them and those of the bundle's graph. */
  cosine: number
  /** Of one input alone. */
  milliseconds: number
  /** Whether the bundle's graph runs one row at a time. */
  rowByRow: boolean
}

/**
 * Reads what a graph takes and gives.
 * @param names - of outputs that are the embedding, the best first
 * @throws BundleError when it is no graph that a bundle may have
 */
export async function readTower(
  folder: string,
  graph: string,
  names: readonly string[],
): Promise<Tower> {
  const path = join(folder, graph)
  const model = await readGraph(path)
  const file = basename(path)
  const output = embeddingOf(model, names, graph)
  const pruned = prune(model.graph, output)
  await inlineWeights(model.graph, dirname(path), file)
  const inputs = inputsOf({ ...model, graph: pruned })
  const isPart = inputs.length < inputsOf(model).length
  return { path, file: graph, output, inputs, isPart }
}

function embeddingOf(model: Model, names: readonly string[], file: string): string {
  const outputs = outputsOf(model)
  const isVector = ({ type, shape }: Port): boolean =>
    type === TYPE.float && (shape.length === 2 || shape.length === 0)
  const named = names.flatMap((name) => outputs.filter((port) => port.name === name))
  const found = named[0] ?? (outputs.length === 1 ? outputs[0] : undefined)
  if (found !== undefined && isVector(found)) return found.name
  const list = outputs.map(
    ({ name, shape }) => `${name} [${shape.map((n) => n ?? '*').join(', ')}]`,
  )
  throw new BundleError(
    `${file} has the outputs ${list.join(', ')}; expected one of ${names.join(', ')}, a vector of float32 for each input.`,
  )
}

/** The two forms of a graph that may fit, the cheaper first. */
export interface Forms {
  build: (model: Model, dim: number, rowByRow: boolean) => Model
  spec: (dim: number) => GraphSpec
  /** Inputs for the original graph of some of the golden inputs. */
  original: (places: readonly number[]) => Tensors
  /** Inputs for the bundle's graph of some of the golden inputs. */
  bundled: (places: readonly number[]) => Tensors
  count: number
}

/**
 * Writes the graph of the bundle.
 * @param into - the new file
 * @throws BundleError when no form gives the embeddings of the original
 */
export async function convert(
  tower: Tower,
  forms: Forms,
  embeddings: Float64Array[],
  into: string,
  runner: GraphRunner,
): Promise<Converted> {
  const dim = embeddings[0]?.length ?? 0
  let reason = new BundleError(`${tower.file} gave no embedding.`)
  for (const rowByRow of [false, true]) {
    await write(tower, (model) => forms.build(model, dim, rowByRow), into)
    try {
      await runner.check(into, forms.spec(dim))
      const { cosine, milliseconds } = await compare(forms, embeddings, runner)
      await runner.release()
      if (cosine >= MIN_COSINE) return { embeddings, dim, cosine, milliseconds, rowByRow }
      reason = new BundleError(
        `The graph of the bundle and ${tower.file} differ: their least cosine is ${cosine.toFixed(6)}; expected at least ${MIN_COSINE}.`,
      )
    } catch (error) {
      if (!(error instanceof BundleError)) throw error
      reason = error
    }
  }
  throw reason
}

async function write(tower: Tower, build: (model: Model) => Model, into: string): Promise<void> {
  const whole = await readGraph(tower.path)
  const model = build({ ...whole, graph: prune(whole.graph, tower.output) })
  await inlineWeights(model.graph, dirname(tower.path), tower.file)
  await writeModel(into, model, tower.file)
}

/** In batches of several sizes, since a batch may not change the embedding of a row. */
async function compare(
  { bundled, count }: Forms,
  embeddings: readonly Float64Array[],
  runner: GraphRunner,
): Promise<{ cosine: number; milliseconds: number }> {
  let cosine = 1
  const times: number[] = []
  for (const size of BATCHES) {
    for (let at = 0; at < count; at += size) {
      const places = Array.from({ length: Math.min(size, count - at) }, (_, i) => at + i)
      const { rows, milliseconds } = await runner.embed(bundled(places), 'embedding')
      if (size === 1) times.push(milliseconds)
      cosine = Math.min(
        cosine,
        leastCosine(
          rows,
          places.map((place) => embeddings[place] ?? new Float64Array()),
        ),
      )
    }
  }
  times.sort((a, b) => a - b)
  return { cosine, milliseconds: times[Math.floor(times.length / 2)] ?? Number.NaN }
}

/**
 * Opens the original graph. Of a graph for images and texts, opens the half that gives the output,
 * since a runtime asks for all inputs of a graph.
 * @param aside - a file for the half, which may be replaced afterwards
 */
export async function openOriginal(
  tower: Tower,
  aside: string,
  runner: GraphRunner,
): Promise<void> {
  if (!tower.isPart) return runner.open(tower.path)
  await write(tower, (half) => half, aside)
  await runner.open(aside)
}

/** The embeddings of the original graph, one input at a time. */
export async function originalEmbeddings(
  { output }: Tower,
  { original, count }: Pick<Forms, 'original' | 'count'>,
  runner: GraphRunner,
): Promise<Float64Array[]> {
  const embeddings: Float64Array[] = []
  for (let place = 0; place < count; place += 1) {
    const { rows } = await runner.embed(original([place]), output)
    const [row] = rows
    if (row === undefined || rows.length !== 1 || row.some(Number.isNaN))
      throw new BundleError(`The output ${output} is not one vector of numbers for one input.`)
    embeddings.push(row)
  }
  return embeddings
}

/** Integers in the type of a port. */
export function integerTensor(port: Port, values: readonly number[], dims: number[]): Tensor {
  return port.type === TYPE.int32
    ? { type: 'int32', data: Int32Array.from(values), dims }
    : { type: 'int64', data: BigInt64Array.from(values, BigInt), dims }
}
