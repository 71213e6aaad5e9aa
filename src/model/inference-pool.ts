/** The processes that run the graphs: one on the CPU, or one for each GPU. A batch goes to one that is free. */
import type { TandemError } from '../errors.js'
import type { Report, WorkerStatus } from '../worker-process.js'
import { leastOf, type BatchLimits } from './batch-limits.js'
import { BundleError } from './bundle-error.js'
import type { Provider } from './execution.js'
import type { GraphName, Tensors } from './graphs.js'
import { Inference, type BatchResult } from './inference.js'

export interface PoolStart {
  folder: string
  fingerprint: string
  threads: number
  /** The first that passes is used; one at least. */
  providers: readonly Provider[]
  /** Numbers of the GPUs that `cuda` and `tensorrt` use; one at least. */
  devices: readonly number[]
  /** Runs something of which the outcome is known; throws when another one comes. */
  test: (inference: Inference) => Promise<void>
}

/** One process that has been started. */
type Process = Pick<Inference, 'limits' | 'ready' | 'status' | 'run' | 'unavailable' | 'close'>

interface Member {
  inference: Process
  busy: boolean
}

export class InferencePool {
  readonly provider: Provider
  /** The most rows in a batch, by graph: what fits every device. */
  readonly limits: BatchLimits
  readonly #members: readonly Member[]

  /** @param processes - one at least, all on that provider */
  constructor(provider: Provider, processes: readonly Process[]) {
    this.provider = provider
    this.limits = leastOf(processes.map(({ limits }) => limits))
    this.#members = processes.map((inference) => ({ inference, busy: false }))
  }

  /**
   * Starts the processes on the first provider that loads the graphs on each of its devices and passes the test there.
   * @param report - told, too, which providers did not, and why
   * @throws BundleError saying why each one did not
   */
  static async open(start: PoolStart, report?: Report): Promise<InferencePool> {
    const reasons: string[] = []
    for (const provider of start.providers) {
      try {
        return new InferencePool(provider, await openAll(provider, start, report))
      } catch (error) {
        const { message } = error as Error
        if (start.providers.length === 1 && provider === 'cpu') throw error
        reasons.push(`${provider} cannot run the bundle in ${start.folder}: ${message}`)
        if (reasons.length < start.providers.length) report?.(`${reasons.at(-1)} The next provider is tried.`)
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
   * @throws TandemError `model_unavailable` when there is none, or it dies meanwhile
   */
  async run(graph: GraphName, inputs: Tensors): Promise<BatchResult> {
    const member = this.#members.find(isFree)
    if (member === undefined) throw this.unavailable()
    member.busy = true
    try {
      return await member.inference.run(graph, inputs)
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
async function openAll(provider: Provider, start: PoolStart, report?: Report): Promise<Inference[]> {
  const { folder, fingerprint, threads, devices, test } = start
  const opened: Inference[] = []
  const open = async (device: number): Promise<void> => {
    const inference = await Inference.open({ folder, fingerprint, execution: { provider, device, threads } }, report)
    opened.push(inference)
    await test(inference)
  }
  const outcomes = await Promise.allSettled((provider === 'cpu' ? [0] : devices).map(open))
  const failed = outcomes.find((outcome) => outcome.status === 'rejected')
  if (failed === undefined) return opened
  await Promise.all(opened.map((inference) => inference.close()))
  throw failed.reason
}
