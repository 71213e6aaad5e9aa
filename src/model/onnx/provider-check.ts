/**
 * Finds where the nodes of a graph ran, from the runtime's profile. The runtime silently moves
 * operators to the CPU that a provider does not support.
 *
 * Integer operators on shapes belong on the CPU, which saves copies. Operators with float outputs
 * are part of the model.
 */
import type { Provider } from './provider.js'

/** Names in the profile: the provider itself, then those that may run operators it leaves. */
const NAMES: Readonly<Record<Provider, readonly string[]>> = {
  cpu: ['CPUExecutionProvider'],
  cuda: ['CUDAExecutionProvider'],
  tensorrt: ['TensorrtExecutionProvider', 'CUDAExecutionProvider'],
}
const FLOATS = ['float', 'float16', 'double', 'bfloat16']
const MAX_NAMED = 5

interface NodeRun {
  operator: string
  provider: string
  /** Floats in its outputs. */
  floats: number
}

/**
 * @param profile - text of the profile file
 * @returns a predicate for the graph; null when the provider computed it
 */
export function providerFault(profile: string, provider: Provider): string | null {
  const runs = nodeRuns(profile)
  const [own = '', ...others] = NAMES[provider]
  if (!runs.some((run) => run.provider === own)) return `ran no operator on ${provider}`
  const strays = runs.filter((run) => ![own, ...others].includes(run.provider) && run.floats > 1)
  if (strays.length === 0) return null
  const counts = new Map<string, number>()
  for (const { operator } of strays) counts.set(operator, (counts.get(operator) ?? 0) + 1)
  const operators = [...counts]
    .sort(([, a], [, b]) => b - a)
    .map(([operator, count]) => `${operator} × ${count}`)
  const more = operators.length > MAX_NAMED ? ', …' : ''
  return `ran ${strays.length} of its ${runs.length} operators elsewhere than on ${provider}: ${operators.slice(0, MAX_NAMED).join(', ')}${more}`
}

interface ProfileEvent {
  cat?: string
  name?: string
  args?: { op_name?: string; provider?: string; output_type_shape?: Record<string, number[]>[] }
}

/** Events of nodes; the profile also has events of fences and of the session. */
function nodeRuns(profile: string): NodeRun[] {
  return (JSON.parse(profile) as ProfileEvent[]).flatMap(({ cat, args }) => {
    if (cat !== 'Node' || args?.provider === undefined || args.provider === '') return []
    const outputs = (args.output_type_shape ?? []).flatMap((output) => Object.entries(output))
    const sizes = outputs
      .filter(([type]) => FLOATS.includes(type))
      .map(([, shape]) => shape.reduce((size, axis) => size * axis, 1))
    return [
      { operator: args.op_name ?? '', provider: args.provider, floats: Math.max(0, ...sizes) },
    ]
  })
}
