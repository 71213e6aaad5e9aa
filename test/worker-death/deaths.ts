/** Kills one worker after the other under load, and looks at how long that is felt. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { availableCores } from '../../src/model/inference/cpu-quota.js'
import { Load, type Counts } from './load.js'
import { Service, workers, type Worker } from './service.js'

/** Errors have to be over by then. */
export const LONGEST_MS = 5000
const QUIET_MS = 1500
const GIVE_UP_MS = 20_000

export interface Death {
  worker: Worker
  /** From the kill to the last refusal. */
  milliseconds: number
  refused: number
  /** Whether as many processes run the worker as must, one of them new. */
  replaced: boolean
}

export interface Deaths {
  deaths: Death[]
  counts: Counts
}

export async function runDeaths(options: {
  kills: number
  seed: number
  model: string
  goOn?: (soFar: Death[]) => boolean
}): Promise<Deaths> {
  const { kills, seed, model, goOn = () => true } = options
  const folder = await mkdtemp(join(tmpdir(), 'tandem-deaths-'))
  const service = await Service.start(folder, model)
  const load = new Load(service.address, seed)
  const { counts } = load
  const deaths: Death[] = []
  try {
    await load.begin()
    await sleep(QUIET_MS)
    if (counts.refused > 0) counts.wrong.push(`${counts.refused} refusals before any death`)
    while (deaths.length < kills && goOn(deaths)) {
      const worker = workers[deaths.length % workers.length] as Worker
      const refusedBefore = counts.refused
      const before = service.processes(worker)
      const killed = performance.now()
      service.kill(worker)
      await quiet(service, counts, killed)
      const milliseconds = counts.refused === refusedBefore ? 0 : counts.lastRefusal - killed
      const replaced = await isReplaced(service, worker, before)
      deaths.push({ worker, milliseconds, refused: counts.refused - refusedBefore, replaced })
    }
    await load.end()
    await load.audit()
    if (!service.alive) counts.wrong.push('the service has ended')
  } finally {
    await load.end()
    await service.stop()
    await rm(folder, { recursive: true, force: true })
  }
  return { deaths, counts }
}

/** Resolves when the service is ready again and nothing has been refused for a while. */
async function quiet(service: Service, counts: Counts, since: number): Promise<void> {
  for (;;) {
    await sleep(50)
    const now = performance.now()
    if (now - since > GIVE_UP_MS)
      return void counts.wrong.push(`still refusing after ${GIVE_UP_MS} ms`)
    if (now - Math.max(since, counts.lastRefusal) < QUIET_MS) continue
    if ((await fetch(`${service.address}/health/ready`)).ok) return
  }
}

/**
 * A death need not be felt: where another process runs the worker, too, the service is well before
 * there is a new one.
 */
async function isReplaced(
  service: Service,
  worker: Worker,
  before: readonly number[],
): Promise<boolean> {
  const begun = performance.now()
  while (performance.now() - begun < GIVE_UP_MS) {
    const now = service.processes(worker)
    const isNew = now.some((pid) => !before.includes(pid))
    // Further decoders start when images wait, up to one more than there are cores.
    const most = worker === 'decoder' ? availableCores() + 1 : before.length
    if (isNew && now.length >= before.length && now.length <= most) return true
    await sleep(50)
  }
  return false
}
