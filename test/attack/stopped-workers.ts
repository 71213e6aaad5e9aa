/** Fault 11: each process of the service is stopped (SIGSTOP), one by one and at random. */
import { setTimeout as sleep } from 'node:timers/promises'
import { randomNumbers } from '../support/random-embeddings.js'
import { moduleOf } from '../support/process-family.js'
import { add, type Outcome } from './attack.js'
import { ask, type Answer } from './http.js'
import { GOOD_KEY, type Service } from './service.js'

/** Errors must have ended by then on a machine that does nothing else. */
export const MAX_FAILING_MS = 10_000
/** The same on a busy machine. */
export const LONGEST_MS = 25_000
const LONGEST_ANSWER_MS = 45_000
const PAUSE_MS = 50
const QUIET_MS = 1500
const QUERIES = ['dogs', 'a photo of a dog', 'horses'].map(
  (q) => `/search?q=${encodeURIComponent(q)}&k=5`,
)

export interface Stops {
  stopped: { worker: string; milliseconds: number; failed: number }[]
  answers: number
  failed: number
  stopMs: number | null
  faults: Outcome['faults']
}

/**
 * @param options.rounds - processes to be stopped, those of each module first, then any at random
 * @param options.allAtTheEnd - whether all are stopped before SIGTERM
 */
export async function stopWorkers(
  service: Service,
  options: { rounds: number; seed: number; image: Buffer; allAtTheEnd: boolean },
): Promise<Stops> {
  const { port } = service
  const next = randomNumbers(options.seed)
  const faults: string[] = []
  const stopped: Stops['stopped'] = []
  for (let at = 0; at < 5; at += 1) await add(port, `steady-${at}`, options.image)
  const search = (path: string): Promise<Answer> =>
    ask(port, { path, key: GOOD_KEY }, LONGEST_ANSWER_MS)
  const expected = new Map<string, string>()
  for (const path of QUERIES) expected.set(path, hitsOf(await search(path)))
  let [isOver, answers, failed, lastFailure] = [false, 0, 0, 0]
  const client = async (work: () => Promise<Answer>): Promise<void> => {
    while (!isOver) {
      const { status, body, ms } = await work()
      answers += 1
      if (status !== 200 && status !== 201) {
        failed += 1
        lastFailure = performance.now()
        if (status !== 503) faults.push(`a request was answered ${status}: ${body.slice(0, 200)}`)
      }
      if (ms > LONGEST_ANSWER_MS - 1000) faults.push('a request was not answered')
      await sleep(PAUSE_MS)
    }
  }
  const clients = [
    ...QUERIES.map((path) =>
      client(async () => {
        const answer = await search(path)
        if (answer.status === 200 && hitsOf(answer) !== expected.get(path))
          faults.push(`a wrong answer to ${path}: ${answer.body.slice(0, 300)}`)
        return answer
      }),
    ),
    client(() => add(port, 'steady-0', options.image)),
  ]
  const order = byModule(service)
  for (let round = 0; round < options.rounds && service.isAlive; round += 1) {
    const now = service.children
    const pid = order[round] ?? now[Math.floor(next() * now.length)] ?? 0
    const worker = moduleOf(pid)
    const [before, begun] = [failed, performance.now()]
    if (!signal(pid, 'SIGSTOP')) continue
    await quiet(begun)
    stopped.push({
      worker,
      milliseconds: failed === before ? 0 : lastFailure - begun,
      failed: failed - before,
    })
    signal(pid, 'SIGCONT')
  }
  isOver = true
  await Promise.all(clients)
  if (options.allAtTheEnd) for (const pid of service.children) signal(pid, 'SIGSTOP')
  const stopMs = await service.stop()
  if (stopMs === null) faults.push('SIGTERM did not end the service')
  return { stopped, answers, failed, stopMs, faults }

  /** Resolves when the worker runs again or is replaced: ready, and no failure for a while. */
  async function quiet(begun: number): Promise<void> {
    for (;;) {
      await sleep(100)
      const now = performance.now()
      if (now - begun > LONGEST_MS) return void faults.push(`failures for ${LONGEST_MS} ms`)
      if (now - Math.max(begun, lastFailure) < QUIET_MS) continue
      if ((await search(`${QUERIES[0]}&candidates=20`)).status !== 200) {
        // It failed by now, so readiness knows: ready again means that the next search succeeds.
        const { status } = await ask(port, { path: '/health/ready', key: 'none' })
        const again = await search(`${QUERIES[0]}&candidates=21`)
        if (status === 200 && again.status !== 200)
          faults.push(`ready, but a search is answered ${again.status} ${again.body.slice(0, 200)}`)
        continue
      }
      if ((await ask(port, { path: '/health/ready', key: 'none' })).status === 200) return
    }
  }
}

/** One process of each module. */
function byModule(service: Service): number[] {
  const first = new Map<string, number>()
  for (const pid of service.children) if (!first.has(moduleOf(pid))) first.set(moduleOf(pid), pid)
  return [...first.values()]
}

function hitsOf({ body }: Answer): string {
  const { hits = [] } = JSON.parse(body === '' ? '{}' : body) as { hits?: { id: string }[] }
  return hits
    .map(({ id }) => id)
    .sort()
    .join(' ')
}

function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    process.kill(pid, name)
    return true
  } catch {
    return false
  }
}
