/** Starts and kills the service repeatedly on one data folder and checks the data at each start. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { randomNumbers } from '../support/random-embeddings.js'
import { BUNDLES, bundlesValue } from './bundle-changes.js'
import { runClients, Versions } from './clients.js'
import { compileSources } from './compile.js'
import { failPoints, type Armed, type FailPoint } from './fail-points.js'
import { toFirstFormat } from './first-format.js'
import { History } from './history.js'
import { Killed, ServiceProcess } from './service-process.js'
import type { BundleName } from './fake-models.js'
import { contradictionsOf } from './verify.js'

/** A process that has not reached its fail point by then is killed. */
const LONGEST_RUN_MS = 20_000
const LONGEST_RANDOM_RUN_MS = 700
/** Share of the random kills that may come during the start of the process. */
const SHARE_WHILE_STARTING = 0.25
/**
 * A process ends at a random arrival at its fail point, up to these numbers by the first word of
 * the name; 1 for other points. A migration reaches its points at least twice.
 */
const LARGEST_ARRIVAL: Record<string, number> = {
  store: 40,
  index: 40,
  snapshot: 4,
  compaction: 2,
  backfill: 8,
  migration: 2,
}
/** Shares of the runs that include these events. */
const SHARE_OF_BUNDLE_CHANGES = 0.35
const SHARE_OF_INDEX_KILLS = 0.1
const SHARE_OF_MIGRATIONS = 0.05
/** Additional time of a run in which the index must recover. */
const INDEX_RECOVERY_MS = 900

export interface Crashes {
  kills: number
  /** Fail point → processes that ended there. */
  atPoints: Map<FailPoint, number>
  acknowledged: number
  /** Starts, ends and promotions of re-embeddings. */
  bundleChanges: number
  /** Starts with a store of the first format. */
  migrations: number
  /** Kills of the index's process alone. */
  indexKills: number
  contradictions: string[]
}

export interface CrashOptions {
  kills: number
  seed: number
  /** The service acknowledges writes before they are durable. */
  earlyAcknowledgement?: boolean
  /** Called after each kill; false ends the test. */
  shouldContinue?: (crashes: Crashes) => boolean
}

/**
 * Kills at every fail point once, then alternately at random moments and fail points. Ends at the
 * first contradiction.
 */
export async function runCrashes({
  kills,
  seed,
  earlyAcknowledgement = false,
  shouldContinue = () => true,
}: CrashOptions): Promise<Crashes> {
  const compiled = await compileSources()
  const dataFolder = await mkdtemp(join(tmpdir(), 'tandem-crash-'))
  const crashes: Crashes = {
    kills: 0,
    atPoints: new Map(),
    acknowledged: 0,
    bundleChanges: 0,
    migrations: 0,
    indexKills: 0,
    contradictions: [],
  }
  let configured: BundleName = 'bundle-a'
  const history = new History(new Map([[BUNDLES, bundlesValue(configured, false)]]))
  const versions = new Versions()
  const gone: Promise<unknown>[] = []
  try {
    for (let at = 0; at <= kills && crashes.contradictions.length === 0; at += 1) {
      const random = randomNumbers(seed + at * 7919)
      const isLast = at === kills || !shouldContinue(crashes)
      const armed = isLast ? null : armedFor(at, random)
      const [subject = ''] = armed?.point.split(':') ?? []
      const happens = (share: number, ...subjects: string[]): boolean =>
        random() < share || subjects.includes(subject)
      const downgraded = happens(SHARE_OF_MIGRATIONS, 'migration')
        ? await toFirstFormat(dataFolder)
        : null
      if (downgraded !== null) {
        configured = downgraded
        crashes.migrations += 1
        history.end(history.begin(BUNDLES, bundlesValue(downgraded, false)))
      }
      const changesBundles = happens(
        SHARE_OF_BUNDLE_CHANGES,
        're-embedding starts',
        'backfill',
        're-embedding ends',
        'promotion',
      )
      const killsIndex = armed === null && happens(SHARE_OF_INDEX_KILLS)
      const service = new ServiceProcess({
        compiled,
        dataFolder,
        configured,
        armed,
        earlyAcknowledgement,
      })
      gone.push(service.gone)
      const timedKill = isLast
        ? undefined
        : killLater(service, armed, random, killsIndex ? INDEX_RECOVERY_MS : 0)
      const state = await service.state
      if (state !== null) {
        const sentences = await contradictionsOf(service, state, history, seed + at).catch(
          emptyIfKilled,
        )
        crashes.contradictions.push(
          ...sentences.map((sentence) => `after ${crashes.kills} kills: ${sentence}`),
        )
        if (isLast || sentences.length > 0) service.kill()
        else {
          const scenario = { initial: state, changesBundles, killsIndex }
          const { items, bundles } = await runClients(
            service,
            history,
            versions,
            seed + at,
            scenario,
          )
          crashes.acknowledged += items
          crashes.bundleChanges += bundles
          if (killsIndex) crashes.indexKills += 1
        }
      }
      const end = await service.ended
      if (end !== 'SIGKILL')
        crashes.contradictions.push(`after ${crashes.kills} kills: the process ended with ${end}`)
      if (armed !== null && timedKill?.fired === false)
        crashes.atPoints.set(armed.point, (crashes.atPoints.get(armed.point) ?? 0) + 1)
      clearTimeout(timedKill?.timer)
      if (isLast) break
      crashes.kills += 1
    }
  } finally {
    // A worker that is starting reads its modules.
    await Promise.all(gone)
    await rm(dataFolder, { recursive: true, force: true })
    await rm(compiled, { recursive: true, force: true })
  }
  return crashes
}

function armedFor(at: number, random: () => number): Armed | null {
  if (at >= failPoints.length && at % 2 === 1) return null
  const point = failPoints[(at < failPoints.length ? at : at >> 1) % failPoints.length] as FailPoint
  return {
    point,
    arrival: 1 + Math.floor(random() * (LARGEST_ARRIVAL[point.split(':', 1)[0] ?? ''] ?? 1)),
  }
}

/** A process that is killed during the check is checked at its next start. */
function emptyIfKilled(error: unknown): string[] {
  if (error instanceof Killed) return []
  throw error
}

/** Kills at a time after the start of the process, or after it has sent its state. */
function killLater(
  service: ServiceProcess,
  armed: Armed | null,
  random: () => number,
  additionalMs: number,
): { fired: boolean; timer?: NodeJS.Timeout } {
  const timedKill: { fired: boolean; timer?: NodeJS.Timeout } = { fired: false }
  const kill = (): void => {
    timedKill.fired = true
    service.kill()
  }
  const [share, moment] = [random(), additionalMs + random() * LONGEST_RANDOM_RUN_MS]
  if (armed === null && share < SHARE_WHILE_STARTING) timedKill.timer = setTimeout(kill, moment)
  else
    void service.state.then(
      () => (timedKill.timer = setTimeout(kill, armed === null ? moment : LONGEST_RUN_MS)),
    )
  return timedKill
}
