/** Sends thousands of cases to a service and finds those that it does not handle. */
import { createHash } from 'node:crypto'
import { Connection, Unreadable, type Reply } from './connection.js'
import { Judge } from './judge.js'
import { ServiceProcess } from './service-process.js'

/** A message to send. */
export interface Case {
  /** Its origin, for the counts. */
  kind: string
  message: Buffer
  /** Valid HTTP: the connection is reused. */
  isWhole: boolean
  /** Called with the outcome. */
  learn?: (reply: Reply) => void
}

export interface Finding {
  fault: string
  name: string
  message: Buffer
}

export interface Campaign {
  sent: number
  byStatus: Map<number, number>
  findings: Finding[]
  /** Refusals as too busy. Such a case is sent again until it is processed, and counted once. */
  refusals: number
  /** Number of times that the service process ended. */
  deaths: number
  slowestMs: number
  /**
   * Bytes half-way through the campaign, once V8 and the decoders have grown, and at its end; null
   * if they cannot be read or the service died.
   */
  memory: { warm: number; end: number } | null
}

/** The limit of the service; an answer much later than it counts as a hang. */
const REQUEST_TIMEOUT_MS = 10_000
const DEADLINE_MS = REQUEST_TIMEOUT_MS + 5000
const AT_A_TIME = 8
/** Pause before a case that was refused as too busy is sent again. */
const PAUSE_WHEN_REFUSED_MS = 20
const MEMORY_SAMPLES = 20

/** Runs all cases. If the service dies, the cases in flight are repeated one by one. */
export async function runCampaign(
  cases: Iterable<Case>,
  expected: number,
  onProgress: (soFar: Campaign) => void = () => undefined,
): Promise<Campaign> {
  const campaign: Campaign = {
    sent: 0,
    byStatus: new Map(),
    findings: [],
    refusals: 0,
    deaths: 0,
    slowestMs: 0,
    memory: null,
  }
  const samples: number[] = []
  const queue = cases[Symbol.iterator]()
  const every = Math.max(1, Math.ceil(expected / MEMORY_SAMPLES))
  let service = await ServiceProcess.start(REQUEST_TIMEOUT_MS)
  try {
    for (let done = false; !done;) {
      const judge = await judgeOf(service)
      const underWay = new Set<Case>()
      const client = async (): Promise<void> => {
        const sender = new Sender(service, judge)
        while (service.ended === null) {
          const next = queue.next()
          if (next.done === true) return sender.close()
          underWay.add(next.value)
          const fault = await sender.send(next.value, campaign)
          // The connection ends before the process does.
          if (fault !== null) await new Promise((resolve) => setTimeout(resolve, 300))
          if (service.ended !== null) return
          underWay.delete(next.value)
          if (fault !== null) campaign.findings.push(findingOf(next.value, fault))
          campaign.sent += 1
          if (campaign.sent % every === 0) {
            samples.push(service.memory() ?? 0)
            onProgress(campaign)
          }
        }
      }
      await Promise.all(Array.from({ length: AT_A_TIME }, client))
      done = service.ended === null
      if (!done) {
        campaign.deaths += 1
        campaign.findings.push(...(await culprits([...underWay], service)))
        campaign.sent += underWay.size
        await service.close()
        service = await ServiceProcess.start(REQUEST_TIMEOUT_MS)
      }
    }
  } finally {
    await service.close()
  }
  if (campaign.deaths === 0) campaign.memory = growth(samples)
  return campaign
}

/** Sends one message to a new service, to repeat a finding; null if the answer is correct. */
export async function faultOf(one: Case): Promise<string | null> {
  const service = await ServiceProcess.start(REQUEST_TIMEOUT_MS)
  try {
    return await faultIn(service, await judgeOf(service), one)
  } finally {
    await service.close()
  }
}

async function faultIn(service: ServiceProcess, judge: Judge, one: Case): Promise<string | null> {
  const sender = new Sender(service, judge)
  const fault = await sender.send(one, { byStatus: new Map(), refusals: 0, slowestMs: 0 })
  // The connection ends before the process does.
  await new Promise((resolve) => setTimeout(resolve, 300))
  sender.close()
  return service.ended === null
    ? fault
    : `the service ended with ${service.ended}: ${service.output.slice(-500)}`
}

async function culprits(
  suspects: readonly Case[],
  { ended, output }: ServiceProcess,
): Promise<Finding[]> {
  const found: Finding[] = []
  for (const suspect of suspects) {
    const fault = await faultOf(suspect)
    if (fault !== null) found.push(findingOf(suspect, fault))
  }
  if (found.length > 0) return found
  const together = `the service ended with ${ended}, and none of ${suspects.length} cases under way repeats it: ${output.slice(-500)}`
  return suspects.map((suspect) => findingOf(suspect, together))
}

async function judgeOf({ port }: ServiceProcess): Promise<Judge> {
  const reply = await fetch(`http://127.0.0.1:${port}/openapi.json`)
  return new Judge((await reply.json()) as ConstructorParameters<typeof Judge>[0])
}

function findingOf({ kind, message }: Case, fault: string): Finding {
  const digest = createHash('sha256').update(message).digest('hex').slice(0, 12)
  return { fault, name: `${kind.replace(/\W+/g, '-').toLowerCase()}-${digest}`, message }
}

/** Medians of the first samples after the warm-up and of the last; garbage collection is noisy. */
function growth(samples: readonly number[]): Campaign['memory'] {
  const median = (some: readonly number[]): number =>
    [...some].sort((a, b) => a - b)[some.length >> 1] ?? 0
  const [warm, end] = [median(samples.slice(8, 11)), median(samples.slice(-3))]
  return warm === 0 || end === 0 ? null : { warm, end }
}

/** Each of many items has an outcome, which may be a refusal as too busy. */
function isRefused(replies: readonly Reply[] | 'late'): boolean {
  return replies !== 'late' && replies.some(({ body }) => body.includes('"code":"overloaded"'))
}

/** A client, which reuses its connection as long as it is open. */
class Sender {
  readonly #service: ServiceProcess
  readonly #judge: Judge
  #connection: Connection | undefined

  constructor(service: ServiceProcess, judge: Judge) {
    this.#service = service
    this.#judge = judge
  }

  /** The fault of the answer, or null. */
  async send(
    { message, isWhole, learn }: Case,
    counts: Pick<Campaign, 'byStatus' | 'refusals' | 'slowestMs'>,
  ): Promise<string | null> {
    const begun = performance.now()
    try {
      let replies = isWhole ? await this.#ask(message) : await this.#tell(message)
      while (isRefused(replies)) {
        if (performance.now() - begun > DEADLINE_MS)
          return `refused as too busy for ${DEADLINE_MS} ms`
        counts.refusals += 1
        await new Promise((resolve) => setTimeout(resolve, PAUSE_WHEN_REFUSED_MS))
        replies = isWhole ? await this.#ask(message) : await this.#tell(message)
      }
      if (replies === 'late') {
        this.close()
        return `no answer within ${DEADLINE_MS} ms`
      }
      if (isWhole) counts.slowestMs = Math.max(counts.slowestMs, performance.now() - begun)
      for (const reply of replies) {
        counts.byStatus.set(reply.status, (counts.byStatus.get(reply.status) ?? 0) + 1)
        learn?.(reply)
      }
      // Later answers belong to the rest of the message, which was read as further requests.
      return (
        replies
          .map((reply, at) => this.#judge.fault(at === 0 ? message : null, reply))
          .find((fault) => fault !== null) ?? null
      )
    } catch (error) {
      this.close()
      if (error instanceof Unreadable) return error.message
      if ((error as NodeJS.ErrnoException).syscall === 'connect')
        return 'the service does not listen any more'
      throw error
    }
  }

  close(): void {
    this.#connection?.close()
    this.#connection = undefined
  }

  async #ask(message: Buffer): Promise<Reply[] | 'late'> {
    // A reused connection may have been closed meanwhile; a new one without an answer is a fault.
    for (let tries = 0; tries < 3; tries += 1) {
      if (this.#connection?.isOpen !== true)
        this.#connection = await Connection.open(this.#service.port)
      const reply = await this.#connection.ask(message, DEADLINE_MS)
      if (reply === 'late') return reply
      if (reply?.headers.get('connection') === 'close') this.close()
      if (reply !== null) return [reply]
    }
    throw new Unreadable('the connection was closed without an answer')
  }

  async #tell(message: Buffer): Promise<Reply[] | 'late'> {
    const connection = await Connection.open(this.#service.port)
    const replies = await connection.tell(message, DEADLINE_MS)
    connection.close()
    return replies
  }
}
