/**
 * The processes that run the graphs: some on the CPU, or one for each GPU. A batch goes to one that
 * is free.
 */
import type { TandemError } from '../../errors.js'
import type { Report, WorkerStatus } from '../../worker/worker-process.js'
import { planProcesses } from './process-plan.js'
import { smallestLimits, type BatchLimits } from './autotune.js'
import type { Bundle } from '../bundle/bundle.js'
import { BundleError } from '../bundle/bundle.js'
import type { Execution, Provider } from '../onnx/provider.js'
import type { GraphName, Tensors } from '../onnx/graph-inputs.js'
import { Inference, type BatchResult } from './process.js'
import type { Found } from './worker.js'

export interface PoolStart {
  bundle: Bundle
  /** On the CPU, of all processes together; 1 at least. */
  threads: number
  /** Bytes that the service may use. */
  memory: number
  /** The first that passes is used; one at least. */
  providers: readonly Provider[]
  /** Numbers of the GPUs that `cuda` and `tensorrt` use; one at least. */
  devices: readonly number[]
  /** Where graphs are kept that are prepared for the CPU; null for nowhere. */
  graphCacheFolder: string | null
  /** Runs something of which the outcome is known; throws when another one comes. */
  test: (inference: Inference) => Promise<void>
}

/** One process that has been started. */
type Process = Pick<Inference, 'ready' | 'status' | 'run' | 'unavailable' | 'close'>

interface Member {
  inference: Process
  busy: boolean
}

export class InferencePool {
  readonly provider: Provider
  /** The most in a batch, by graph: what suits every device. */
  readonly limits: BatchLimits
  /** Tokens of padding that cost as much as another batch of texts. */
  readonly padding: number
  readonly #members: readonly Member[]

  /** @param processes - one at least, all on that provider */
  constructor(
    provider: Provider,
    processes: readonly Process[],
    { limits, padding }: Omit<Found, 'need'>,
  ) {
    this.provider = provider
    this.limits = limits
    this.padding = padding
    this.#members = processes.map((inference) => ({ inference, busy: false }))
  }

  /**
   * Starts the processes on the first provider that loads the graphs on each of its devices and
   * passes the test there.
   * @param report - told, too, which providers did not, and why
   * @throws BundleError saying why each one did not
   */
  static async open(start: PoolStart, report?: Report): Promise<InferencePool> {
    const reasons: string[] = []
    for (const provider of start.providers) {
      try {
        return await (provider === 'cpu'
          ? openOnCpu(start, report)
          : openOnDevices(provider, start, report))
      } catch (error) {
        const { message } = error as Error
        if (start.providers.length === 1 && provider === 'cpu') throw error
        reasons.push(`${provider} cannot run the bundle in ${start.bundle.folder}: ${message}`)
        if (reasons.length < start.providers.length)
          report?.(`${reasons.at(-1)} The next provider is tried.`)
      }
    }
    throw new BundleError(reasons.join('\n'))
  }

  /** Batches that can run at the same time when every process is there. */
  get size(): number {
    return this.#members.length
  }

  /** Batches that can be begun now. */
  get free(): number {
    return this.#members.filter(isFree).length
  }

  /** False while there is no process: a batch would be refused. */
  get ready(): boolean {
    return this.#members.some(({ inference }) => inference.ready)
  }

  get statuses(): readonly WorkerStatus[] {
    return this.#members.map(({ inference }) => inference.status)
  }

  /**
   * Runs one batch in a process that is free.
   * @param wanted - names of outputs; all by default
   * @throws TandemError `model_unavailable` when there is none, or it dies meanwhile
   */
  async run(graph: GraphName, inputs: Tensors, wanted?: readonly string[]): Promise<BatchResult> {
    const member = this.#members.find(isFree)
    if (member === undefined) throw this.unavailable()
    member.busy = true
    try {
      return await member.inference.run(graph, inputs, wanted)
    } finally {
      member.busy = false
    }
  }

  /** What a caller is told while there is no process. */
  unavailable(): TandemError {
    const [{ inference }] = this.#members as [Member]
    return inference.unavailable()
  }

  /** Resolves when the batches under way have been answered and the processes have ended. */
  async close(): Promise<void> {
    await Promise.all(this.#members.map(({ inference }) => inference.close()))
  }
}

function isFree({ inference, busy }: Member): boolean {
  return inference.ready && !busy
}

/** One process for each device; all of them, or none. */
async function openOnDevices(
  provider: Provider,
  start: PoolStart,
  report?: Report,
): Promise<InferencePool> {
  const opened = await all(
    start.devices.map((device) => openOne({ provider, device, threads: 1 }, start, report)),
  )
  const found = await Promise.all(opened.map((inference) => inference.measure()))
  const limits = smallestLimits(found.map((one) => one.limits))
  return new InferencePool(provider, opened, {
    limits,
    padding: Math.min(...found.map(({ padding }) => padding)),
  })
}

/** The first process finds out how many there should be, and of how many threads. */
async function openOnCpu(start: PoolStart, report?: Report): Promise<InferencePool> {
  const open = (threads: number): Promise<Inference> =>
    openOne({ provider: 'cpu', device: 0, threads }, start, report)
  const first = await open(1)
  const found = await first.measure()
  const { processes, threads } = planProcesses(start.threads, start.memory, found.need)
  // One that has prepared graphs holds memory that those which load them never need.
  const isKept = threads === 1 && !first.prepared
  if (!isKept) await first.close()
  const others = Array.from({ length: isKept ? processes - 1 : processes }, () => open(threads))
  const opened = await all(others).catch(async (error: unknown) => {
    await first.close()
    throw error
  })
  return new InferencePool('cpu', isKept ? [first, ...opened] : opened, found)
}

/** A process that has passed the test. */
async function openOne(
  execution: Execution,
  start: PoolStart,
  report?: Report,
): Promise<Inference> {
  const { bundle, graphCacheFolder, test } = start
  const inference = await Inference.open({ bundle, execution, graphCacheFolder }, report)
  try {
    await test(inference)
    return inference
  } catch (error) {
    await inference.close()
    throw error
  }
}

/** All of them, or none. */
async function all(opening: readonly Promise<Inference>[]): Promise<Inference[]> {
  const outcomes = await Promise.allSettled(opening)
  const opened = outcomes.flatMap((outcome) =>
    outcome.status === 'fulfilled' ? [outcome.value] : [],
  )
  const failed = outcomes.find((outcome) => outcome.status === 'rejected')
  if (failed === undefined) return opened
  await Promise.all(opened.map((inference) => inference.close()))
  throw failed.reason
}
