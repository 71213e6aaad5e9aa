/**
 * Runs of a graph on made inputs, before it is trusted: what a graph declares of its outputs, an
 * open axis above all, is not what it must give.
 */
import { BundleError } from '../bundle/bundle.js'
import type { GraphSpec, Tensor, Tensors, TensorSpec } from './graph-inputs.js'

/** Sizes of the open axes. */
export interface Sizes {
  rows: number
  tokens: number
}

/** As many rows, and tokens in a row, as tell one axis from the other. */
const SMALL: Sizes = { rows: 2, tokens: 3 }

/**
 * @throws BundleError naming the file, and the output that has another shape than the bundle says
 */
export async function dryRun(
  spec: GraphSpec,
  run: (inputs: Tensors) => Promise<Tensors>,
): Promise<void> {
  const { file, outputs } = spec
  const given = await run(dryRunInputs(spec, SMALL)).catch((error: Error) => {
    throw new BundleError(`${file} is not a graph that can be run: ${error.message}`)
  })
  for (const [name, output] of Object.entries(outputs)) {
    const [found, wanted] = [given[name]?.dims.join(', '), sizesOf(output, SMALL).join(', ')]
    if (found !== wanted) {
      throw new BundleError(
        `${file} gives the output ${name} the shape [${found}] where [${wanted}] is expected.`,
      )
    }
  }
}

/** Inputs of those sizes: ones, which are a token, a mask and a row of the made inputs alike. */
export function dryRunInputs({ inputs }: GraphSpec, sizes: Sizes): Tensors {
  return Object.fromEntries(
    Object.entries(inputs).map(([name, input]) => [name, dryRunTensor(input, sizes)]),
  )
}

function sizesOf({ shape }: TensorSpec, { rows, tokens }: Sizes): number[] {
  return shape.map((axis, at) => axis ?? (at === 0 ? rows : tokens))
}

function dryRunTensor(spec: TensorSpec, sizes: Sizes): Tensor {
  const dims = sizesOf(spec, sizes)
  const length = dims.reduce((product, size) => product * size, 1)
  switch (spec.type) {
    case 'int64':
      // Where there is one row alone, a pair names that.
      return { type: 'int64', data: new BigInt64Array(length).fill(sizes.rows > 1 ? 1n : 0n), dims }
    case 'float32':
      return { type: 'float32', data: new Float32Array(length).fill(1), dims }
    case 'int8':
      return { type: 'int8', data: new Int8Array(length).fill(1), dims }
    case 'uint8':
      return { type: 'uint8', data: new Uint8Array(length).fill(1), dims }
  }
}
