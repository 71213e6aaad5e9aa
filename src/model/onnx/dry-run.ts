/**
 * Runs a graph on constant inputs and checks the shapes of its outputs, which may differ from the
 * declared ones, above all on open axes.
 */
import { BundleError } from '../bundle/bundle.js'
import type { GraphSpec, Tensor, Tensors, TensorSpec } from './graph-inputs.js'

/** Sizes of the open axes. */
export interface Sizes {
  rows: number
  tokens: number
}

/** Different sizes, so that a swap of the axes shows. */
const SMALL: Sizes = { rows: 2, tokens: 3 }

/** @throws BundleError for a run that fails or an output of another shape than the bundle says */
export async function dryRun(
  spec: GraphSpec,
  run: (inputs: Tensors) => Promise<Tensors>,
): Promise<void> {
  const { file, outputs } = spec
  const actual = await run(dryRunInputs(spec, SMALL)).catch((error: Error) => {
    throw new BundleError(`${file} is not a graph that can be run: ${error.message}`)
  })
  for (const [name, output] of Object.entries(outputs)) {
    const [shape, expected] = [actual[name]?.dims.join(', '), sizesOf(output, SMALL).join(', ')]
    if (shape !== expected) {
      throw new BundleError(
        `${file} has the output ${name} of shape [${shape}]; expected [${expected}].`,
      )
    }
  }
}

/** Inputs of these sizes. 1 is a valid token, mask and row. */
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
      // With a single row, a pair can only name row 0.
      return { type: 'int64', data: new BigInt64Array(length).fill(sizes.rows > 1 ? 1n : 0n), dims }
    case 'int32':
      return { type: 'int32', data: new Int32Array(length).fill(1), dims }
    case 'float32':
      return { type: 'float32', data: new Float32Array(length).fill(1), dims }
    case 'int8':
      return { type: 'int8', data: new Int8Array(length).fill(1), dims }
    case 'uint8':
      return { type: 'uint8', data: new Uint8Array(length).fill(1), dims }
  }
}
