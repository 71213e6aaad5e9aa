/** Runs an attack beside good clients, and judges what they saw and what is left of it. */
import { setTimeout as sleep } from 'node:timers/promises'
import { ask, closeAgents, RawClients, type Answer } from './http.js'
import { ATTACKER_KEYS, GOOD_KEY, type Service } from './service.js'

export interface Target {
  port: number
  raw: RawClients
  /** A key of an attacker, who has several. */
  key: (at: number) => string
  /** Whether the time of the attack is over. */
  isOver: () => boolean
}

export interface Attack {
  /** The number in the list of faults that it repeats. */
  fault: number
  name: string
  /** Whether a good client adds images meanwhile, too. */
  adds?: boolean
  /** Attacks until it is over. */
  run: (target: Target) => Promise<void>
}

export interface Outcome {
  attack: Pick<Attack, 'fault' | 'name'>
  requests: number
  succeeded: number
  p99: number
  /** MiB of all processes; before and after without garbage of the main one. */
  memory: { before: number; most: number; after: number }
  /** Sentences; none if all is well. */
  faults: string[]
}

export const MIN_SUCCESS = 0.99
export const MAX_P99_MS = 1000
/** MiB above the memory before. Held bodies are bounded by 256 MiB, JSON is there three times. */
export const MAX_MEMORY = 1200
const MAX_MEMORY_AFTER = 300
/** A decoder or an index that is started meanwhile has some pipes. */
const MAX_DESCRIPTORS_AFTER = 20
const AFTERWARDS_MS = 30_000
const PAUSE_MS = 25
/** Permits that one client can have, by the defaults. */
const INTERACTIVE_SHARE = 48
const BULK_SHARE = 12

/**
 * @param options.image - bytes of an image that good clients add
 * @param options.hasEnded - whether the attack has ended before its time
 * @param options.judgesTime - false where the machine does other work, so that p99 tells little
 */
export async function runAttack(
  service: Service,
  attack: Attack,
  options: { seconds: number; image: Buffer; judgesTime: boolean; hasEnded?: () => boolean },
): Promise<Outcome> {
  const { hasEnded = () => false } = options
  const { port } = service
  closeAgents()
  await sleep(200)
  const raw = new RawClients(port)
  await service.collectGarbage()
  const before = { memory: service.memory, descriptors: service.descriptors }
  const end = performance.now() + options.seconds * 1000
  const broken: unknown[] = []
  const isOver = (): boolean =>
    performance.now() > end || hasEnded() || !service.isAlive || broken.length > 0
  const answers: Answer[] = []
  let mostMemory = before.memory
  const target: Target = {
    port,
    raw,
    key: (at) => ATTACKER_KEYS[at % ATTACKER_KEYS.length] ?? '',
    isOver,
  }
  const good = async (work: () => Promise<Answer>, pauseMs: number): Promise<void> => {
    while (!isOver()) {
      answers.push(await work())
      mostMemory = Math.max(mostMemory, service.isAlive ? service.memory : 0)
      await sleep(pauseMs)
    }
  }
  const path = '/search?q=a%20dog&k=3'
  const clients = [good(() => ask(port, { path, key: GOOD_KEY }), PAUSE_MS)]
  if (attack.adds === true) clients.push(good(() => add(port, 'good', options.image), 4 * PAUSE_MS))
  const attacking = attack.run(target).catch((error: unknown) => broken.push(error))
  await Promise.all(clients)
  raw.closeAll()
  closeAgents()
  await Promise.race([attacking, sleep(AFTERWARDS_MS)])

  const faults: string[] = []
  const succeeded = answers.filter(({ status }) => status === 200 || status === 201).length
  const times = answers.map(({ ms }) => ms).sort((a, b) => a - b)
  const p99 = times[Math.floor(times.length * 0.99)] ?? 0
  if (!service.isAlive) faults.push('the service has ended')
  if (broken.length > 0) faults.push(`the attack has ended: ${String(broken[0])}`)
  if (succeeded < answers.length * MIN_SUCCESS)
    faults.push(
      `${answers.length - succeeded} of ${answers.length} good requests failed: ${failures(answers)}`,
    )
  if (options.judgesTime && p99 > MAX_P99_MS)
    faults.push(`p99 of good requests is ${p99.toFixed(0)} ms`)
  if (mostMemory > before.memory + MAX_MEMORY)
    faults.push(`memory rose from ${before.memory.toFixed(0)} to ${mostMemory.toFixed(0)} MiB`)
  if (service.isAlive) faults.push(...(await leftOver(service, before, options.image)))
  const after = service.isAlive ? service.memory : 0
  const memory = { before: before.memory, most: mostMemory, after }
  return { attack, requests: answers.length, succeeded, p99, memory, faults }
}

export function add(port: number, id: string, image: Buffer): Promise<Answer> {
  return ask(port, {
    method: 'PUT',
    path: `/items/${id}`,
    key: GOOD_KEY,
    type: 'image/jpeg',
    body: image,
  })
}

/** What has not come back: permits of both kinds, descriptors, memory. */
async function leftOver(
  service: Service,
  before: { memory: number; descriptors: number },
  image: Buffer,
): Promise<string[]> {
  const end = performance.now() + AFTERWARDS_MS
  let faults = ['']
  while (faults.length > 0 && performance.now() < end) {
    faults = []
    for (const key of [GOOD_KEY, ...ATTACKER_KEYS.slice(0, 2)]) {
      const question = { path: '/items?limit=1', key }
      const refused = await refusals(INTERACTIVE_SHARE, () => ask(service.port, question))
      if (refused !== '') faults.push(`permits are missing: ${refused}`)
    }
    const refused = await refusals(BULK_SHARE, (at) => add(service.port, `after-${at}`, image))
    if (refused !== '') faults.push(`bulk permits are missing: ${refused}`)
    closeAgents()
    await sleep(500)
    if (!service.isAlive) return ['the service has ended afterwards']
    await service.collectGarbage()
    const descriptors = service.descriptors - before.descriptors
    if (descriptors > MAX_DESCRIPTORS_AFTER) faults.push(`${descriptors} descriptors are left`)
    const memory = service.memory - before.memory
    if (memory > MAX_MEMORY_AFTER) faults.push(`${memory.toFixed(0)} MiB of memory are left`)
    if (faults.length > 0) await sleep(1000)
  }
  return faults
}

async function refusals(count: number, work: (at: number) => Promise<Answer>): Promise<string> {
  const answers = await Promise.all(Array.from({ length: count }, (_, at) => work(at)))
  return failures(answers)
}

/** The failed answers by status and code. */
function failures(answers: readonly Answer[]): string {
  const counts = new Map<string, number>()
  for (const { status, body } of answers) {
    if (status === 200 || status === 201) continue
    const what = status === 0 ? body : `${status} ${/"code":"(\w+)"/.exec(body)?.[1] ?? ''}`
    counts.set(what, (counts.get(what) ?? 0) + 1)
  }
  return [...counts].map(([what, count]) => `${count} × ${what}`).join(', ')
}
