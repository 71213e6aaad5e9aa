/** Compares the declared inputs and outputs of a graph with those of the bundle. */
import { BundleError } from '../bundle/bundle.js'
import type { TensorSpec } from './graph-inputs.js'

/** An input or output of the runtime; an open axis is a name or a negative number. */
export type DeclaredValue = { name: string } & (
  { isTensor: false } | { isTensor: true; type: string; shape: readonly (number | string)[] }
)

/** @throws BundleError with the actual and the expected tensors */
export function checkTensors(
  file: string,
  kind: 'input' | 'output',
  found: readonly DeclaredValue[],
  expected: Readonly<Record<string, TensorSpec>>,
): void {
  const actual = new Map(
    found.map((value) => [
      value.name,
      value.isTensor ? describe(value.type, value.shape) : 'no tensor',
    ]),
  )
  const names = Object.keys(expected)
  const wrong = names.filter(
    (name) =>
      !fits(
        found.find((value) => value.name === name),
        expected[name],
      ),
  )
  if (wrong.length === 0 && actual.size === names.length) return
  const list = (entries: Iterable<readonly [string, string]>): string =>
    [...entries].map(([name, text]) => `${name} ${text}`).join(', ')
  const wanted = Object.entries(expected).map(
    ([name, { type, shape }]) => [name, describe(type, shape)] as const,
  )
  throw new BundleError(`${file} has the ${kind}s ${list(actual)}; expected are ${list(wanted)}.`)
}

/** Whether a value is a tensor of the type of `spec` with the same fixed axes. */
function fits(value: DeclaredValue | undefined, spec: TensorSpec | undefined): boolean {
  if (value === undefined || spec === undefined || !value.isTensor || value.type !== spec.type)
    return false
  if (value.shape.length !== spec.shape.length) return false
  // A fixed batch axis would fail at the first batch of another size, so it must be open in both.
  return spec.shape.every((axis, i) => {
    const size = value.shape[i]
    const open = typeof size !== 'number' || size < 0
    return axis === null ? open : open || size === axis
  })
}

function describe(type: string, shape: readonly (number | string | null)[]): string {
  return `${type} [${shape.map((axis) => axis ?? '*').join(', ')}]`
}
