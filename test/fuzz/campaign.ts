/** Sends cases to a service by the thousand, and finds out which of them it does not stand. */
import { createHash } from 'node:crypto'
import { Connection, Unreadable, type Reply } from './connection.js'
import { Judge } from './judge.js'
import { ServiceProcess } from './service-process.js'

/** Something to send, and what becomes of it. */
export interface Case {
  /** What it is made of, for the counts. */
  kind: string
  message: Buffer
  /** HTTP as it should be: the connection is kept for the next one. */
  isWhole: boolean
  /** Told what came of it. */
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
  /**
   * Answers that the service was too busy. Such a case is sent again until it is looked at, and
   * counted once.
   */
  refusals: number
  /** How often the service process ended. */
  deaths: number
  slowestMs: number
  /**
   * Bytes, half-way through the campaign, when V8 and the decoders have grown to what they keep,
   * and at its end; null where it cannot be read, or the service died.
   */
  memory: { warm: number; end: number } | null
}

/** The service's own limit; what is not answered so long after it hangs. */
const REQUEST_TIMEOUT_MS = 10_000
const DEADLINE_MS = REQUEST_TIMEOUT_MS + 5000
const AT_A_TIME = 8
/**
 * What is refused because too much is under way has not been tried: it is sent again after this.
 */
const PAUSE_WHEN_REFUSED_MS = 20
const MEMORY_SAMPLES = 20

/**
 * Runs all cases. Where the service dies, those under way are tried again one by one to see which
 * it was.
 */
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
          // The end of a connection is seen before that of the process.
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

/**
 * Sends one message to a service of its own, as a finding is tried again. Null where nothing is
 * wrong any more.
 */
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
  // The end of a connection is seen before that of the process.
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

/**
 * The median of the first samples behind the warm-up, and of the last: a single one depends on the
 * collector's mood.
 */
function growth(samples: readonly number[]): Campaign['memory'] {
  const median = (some: readonly number[]): number =>
    [...some].sort((a, b) => a - b)[some.length >> 1] ?? 0
  const [warm, end] = [median(samples.slice(8, 11)), median(samples.slice(-3))]
  return warm === 0 || end === 0 ? null : { warm, end }
}

/** Many items have an outcome each, which may be that the service was too busy for that one. */
function isRefused(replies: readonly Reply[] | 'late'): boolean {
  return replies !== 'late' && replies.some(({ body }) => body.includes('"code":"overloaded"'))
}

/** One client: a connection that is kept as long as it holds. */
class Sender {
  readonly #service: ServiceProcess
  readonly #judge: Judge
  #connection: Connection | undefined

  constructor(service: ServiceProcess, judge: Judge) {
    this.#service = service
    this.#judge = judge
  }

  /** What is wrong with how the service took it, or null. */
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
      // What follows the first answer is for what was read out of the rest of the message.
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
    // A connection that the service had closed meanwhile is no fault; a new one without an answer
    // is.
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
