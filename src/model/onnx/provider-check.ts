/**
 * Where the nodes of a graph really ran, from the runtime's profile of a run: it moves to the CPU,
 * without a word, what the provider that was asked for cannot do.
 *
 * Some of it belongs there: the runtime counts rows and tokens on the CPU, in integers, to save
 * copies. What gives floats is a part of the model.
 */
import type { Provider } from './provider.js'

/**
 * The provider's own, and those that may take what it leaves; `tensorrt` leaves to `cuda` what it
 * cannot compile.
 */
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
  /** Floats that it gave. */
  floats: number
}

/**
 * @param profile - the file that the runtime wrote
 * @returns what is wrong, to follow "the graph": null when the provider computed it
 */
export function providerFault(profile: string, provider: Provider): string | null {
  const runs = nodeRuns(profile)
  const [own = '', ...others] = NAMES[provider]
  if (!runs.some((run) => run.provider === own)) return `ran no operator on ${provider}`
  const strays = runs.filter((run) => ![own, ...others].includes(run.provider) && run.floats > 1)
  if (strays.length === 0) return null
  const counts = new Map<string, number>()
  for (const { operator } of strays) counts.set(operator, (counts.get(operator) ?? 0) + 1)
  const named = [...counts]
    .sort(([, a], [, b]) => b - a)
    .map(([operator, count]) => `${operator} × ${count}`)
  const more = named.length > MAX_NAMED ? ', …' : ''
  return `ran ${strays.length} of its ${runs.length} operators elsewhere than on ${provider}: ${named.slice(0, MAX_NAMED).join(', ')}${more}`
}

interface ProfileEvent {
  cat?: string
  name?: string
  args?: { op_name?: string; provider?: string; output_type_shape?: Record<string, number[]>[] }
}

/** The events of nodes that computed; the profile has others, of fences and of the session. */
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
