/** The processes that run the graphs: several on the CPU, or one for each GPU. */
import { randomUUID } from 'node:crypto'
import type { TandemError } from '../../errors.js'
import type { Report, WorkerStatus } from '../../worker/worker-process.js'
import { planProcesses } from './process-plan.js'
import { smallestLimits, type BatchLimits } from './autotune.js'
import type { Bundle } from '../bundle/bundle.js'
import { BundleError } from '../bundle/bundle.js'
import type { Execution, Provider } from '../onnx/provider.js'
import type { GraphName, Tensors } from '../onnx/graph-inputs.js'
import { Inference, type BatchResult } from './process.js'
import type { Measurement } from './worker.js'

const SERVICE = randomUUID()
/** With cached graphs, then with those that were made again. */
const MAX_CRASHES = 2

export interface PoolStart {
  bundle: Bundle
  /** Threads of all processes on the CPU; at least 1. */
  threads: number
  /** Bytes that the service may use. */
  memory: number
  /** In order of preference, at least one; the first that passes the test is used. */
  providers: readonly Provider[]
  /** Numbers of the GPUs for `cuda` and `tensorrt`; at least one. */
  devices: readonly number[]
  /** Folder of the graph cache; null for no cache. */
  graphCacheFolder: string | null
  /** Throws when a process computes wrong outputs. */
  test: (inference: Inference) => Promise<void>
}

type Process = Pick<Inference, 'ready' | 'status' | 'run' | 'unavailable' | 'close'>

interface Member {
  inference: Process
  busy: boolean
}

export class InferencePool {
  readonly provider: Provider
  /** The maximum of a batch, by graph, for all devices. */
  readonly limits: BatchLimits
  /** Tokens of padding that cost as much as another batch of texts. */
  readonly padding: number
  readonly #members: readonly Member[]

  /** @param processes - at least one, all on that provider */
  constructor(
    provider: Provider,
    processes: readonly Process[],
    { limits, padding }: Omit<Measurement, 'need'>,
  ) {
    this.provider = provider
    this.limits = limits
    this.padding = padding
    this.#members = processes.map((inference) => ({ inference, busy: false }))
  }

  /**
   * Starts the processes on the first provider that loads the graphs and passes the test on each of
   * its devices.
   * @param report - also gets the reason why a provider failed
   * @throws BundleError with the reasons of all providers
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

  /** Batches that can run at a time when all processes are ready. */
  get size(): number {
    return this.#members.length
  }

  /** Batches that can start now. */
  get free(): number {
    return this.#members.filter(isFree).length
  }

  /** False while there is no process. */
  get ready(): boolean {
    return this.#members.some(({ inference }) => inference.ready)
  }

  get statuses(): readonly WorkerStatus[] {
    return this.#members.map(({ inference }) => inference.status)
  }

  /**
   * Runs one batch in a free process.
   * @param wanted - names of outputs; all by default
   * @throws TandemError `model_unavailable` when no process is free, or it dies during the run
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

  /** The error of calls while there is no process. */
  unavailable(): TandemError {
    const [{ inference }] = this.#members as [Member]
    return inference.unavailable()
  }

  /** Resolves when the running batches are done and the processes have ended. */
  async close(): Promise<void> {
    await Promise.all(this.#members.map(({ inference }) => inference.close()))
  }
}

function isFree({ inference, busy }: Member): boolean {
  return inference.ready && !busy
}

/** One process for each device. */
async function openOnDevices(
  provider: Provider,
  start: PoolStart,
  report?: Report,
): Promise<InferencePool> {
  const opened = await all(
    start.devices.map((device) => openOne({ provider, device, threads: 1 }, start, { report })),
  )
  const measured = await Promise.all(opened.map((inference) => inference.measure()))
  const limits = smallestLimits(measured.map((device) => device.limits))
  return new InferencePool(provider, opened, {
    limits,
    padding: Math.min(...measured.map(({ padding }) => padding)),
  })
}

/** The first process measures how many processes and threads there should be. */
async function openOnCpu(start: PoolStart, report?: Report): Promise<InferencePool> {
  const remarks = new Set<string>()
  const remark = (sentence: string): void => {
    if (!remarks.has(sentence)) report?.(sentence)
    remarks.add(sentence)
  }
  const open = (threads: number, isCacheVerified: boolean): Promise<Inference> =>
    openOne({ provider: 'cpu', device: 0, threads }, start, { report, remark, isCacheVerified })
  const first = await open(1, false)
  const measured = await first.measure()
  const { processes, threads } = planProcesses(start.threads, start.memory, measured.need)
  // A process that filled the graph cache holds more memory than one that loads from it.
  const isFirstUsed = threads === 1 && !first.filledCache
  if (!isFirstUsed) await first.close()
  const others = Array.from({ length: isFirstUsed ? processes - 1 : processes }, () =>
    open(threads, true),
  )
  const opened = await all(others).catch(async (error: unknown) => {
    await first.close()
    throw error
  })
  return new InferencePool('cpu', isFirstUsed ? [first, ...opened] : opened, measured)
}

/**
 * Starts a process and tests it. A process that ends meanwhile is started again, since the next one
 * makes the graph cache again, and then does without it.
 */
async function openOne(
  execution: Execution,
  start: PoolStart,
  {
    report,
    remark,
    isCacheVerified = false,
  }: { report?: Report | undefined; remark?: Report; isCacheVerified?: boolean },
): Promise<Inference> {
  const { bundle, graphCacheFolder, test } = start
  const options = { bundle, execution, graphCacheFolder, isCacheVerified, service: SERVICE }
  const mayCrash = execution.provider === 'cpu' && graphCacheFolder !== null
  for (let crashes = 0; ; crashes += 1) {
    try {
      const inference = await Inference.open(options, report, remark)
      return await tested(inference, test)
    } catch (error) {
      const hasEnded = !(error instanceof BundleError)
      if (!hasEnded || !mayCrash || crashes === MAX_CRASHES) throw error
    }
  }
}

/** Closes the process when the test fails. */
async function tested(inference: Inference, test: PoolStart['test']): Promise<Inference> {
  try {
    await test(inference)
    return inference
  } catch (error) {
    await inference.close()
    throw error
  }
}

/** All processes; closes the others when one fails. */
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
