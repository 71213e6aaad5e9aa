/**
 * Lives and kills, one after the other on one data folder, each followed by a check of what the
 * next start finds.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { randomNumbers } from '../support/random-embeddings.js'
import { bundlesAs, THE_BUNDLES } from './bundle-changes.js'
import { runClients, Versions } from './clients.js'
import { compileSources } from './compile.js'
import { failPoints, type Armed, type FailPoint } from './fail-points.js'
import { toFirstFormat } from './first-format.js'
import { History } from './history.js'
import { Killed, Life } from './service-process.js'
import type { BundleName } from './made-models.js'
import { contradictionsOf } from './verify.js'

/** After this a life is killed whether or not it has reached its fail point. */
const LONGEST_LIFE_MS = 20_000
const LONGEST_RANDOM_LIFE_MS = 700
/** Of the kills at random moments, so many may come while the process is still starting. */
const SHARE_WHILE_STARTING = 0.25
/** A point is not always passed for the first time. By the first word of its name: some are passed less often, and the
 * commits of a migration at least twice. */
const LARGEST_ARRIVAL: Record<string, number> = {
  store: 40,
  index: 40,
  snapshot: 4,
  compaction: 2,
  backfill: 8,
  migration: 2,
}
/**
 * Of the lives, so many see changes of the bundle, the death of the index's process, and a start
 * from the first format.
 */
const SHARE_OF_BUNDLE_CHANGES = 0.35
const SHARE_OF_INDEX_DEATHS = 0.1
const SHARE_OF_MIGRATIONS = 0.05
/** So long later than otherwise is a life killed in which the index has to come back. */
const RETURN_OF_INDEX_MS = 900

export interface Crashes {
  kills: number
  /** Fail point → processes that ended there. */
  atPoints: Map<FailPoint, number>
  acknowledged: number
  /** Starts, ends and promotions of re-embeddings. */
  bundleChanges: number
  /** Starts that found a store of the first format, and deaths of the index's process alone. */
  migrations: number
  indexDeaths: number
  contradictions: string[]
}

export interface CrashOptions {
  kills: number
  seed: number
  hasty?: boolean
  /** Called after each kill; the run ends early where it answers false. */
  goOn?: (soFar: Crashes) => boolean
}

/**
 * First every fail point once, then random moments and fail points in turns. Ends at the first
 * contradiction.
 */
export async function runCrashes({
  kills,
  seed,
  hasty = false,
  goOn = () => true,
}: CrashOptions): Promise<Crashes> {
  const built = await compileSources()
  const dataFolder = await mkdtemp(join(tmpdir(), 'tandem-crash-'))
  const crashes: Crashes = {
    kills: 0,
    atPoints: new Map(),
    acknowledged: 0,
    bundleChanges: 0,
    migrations: 0,
    indexDeaths: 0,
    contradictions: [],
  }
  let configured: BundleName = 'made-a'
  const history = new History(new Map([[THE_BUNDLES, bundlesAs(configured, false)]]))
  const versions = new Versions()
  try {
    for (let at = 0; at <= kills && crashes.contradictions.length === 0; at += 1) {
      const next = randomNumbers(seed + at * 7919)
      const isLast = at === kills || !goOn(crashes)
      const armed = isLast ? null : armedFor(at, next)
      const [subject = ''] = armed?.point.split(':') ?? []
      const happens = (share: number, ...subjects: string[]): boolean =>
        next() < share || subjects.includes(subject)
      const former = happens(SHARE_OF_MIGRATIONS, 'migration')
        ? await toFirstFormat(dataFolder)
        : null
      if (former !== null) {
        configured = former
        crashes.migrations += 1
        history.end(history.begin(THE_BUNDLES, bundlesAs(former, false)))
      }
      const changesBundles = happens(
        SHARE_OF_BUNDLE_CHANGES,
        're-embedding starts',
        'backfill',
        're-embedding ends',
        'promotion',
      )
      const killsIndex = armed === null && happens(SHARE_OF_INDEX_DEATHS)
      const life = new Life({ built, dataFolder, configured, armed, hasty })
      const cut = isLast
        ? undefined
        : killLater(life, armed, next, killsIndex ? RETURN_OF_INDEX_MS : 0)
      const state = await life.state
      if (state !== null) {
        const wrong = await contradictionsOf(life, state, history, seed + at).catch(noneOfTheKilled)
        crashes.contradictions.push(
          ...wrong.map((sentence) => `after ${crashes.kills} kills: ${sentence}`),
        )
        if (isLast || wrong.length > 0) life.kill()
        else {
          const play = { found: state, changesBundles, killsIndex }
          const { items, bundles } = await runClients(life, history, versions, seed + at, play)
          crashes.acknowledged += items
          crashes.bundleChanges += bundles
          if (killsIndex) crashes.indexDeaths += 1
        }
      }
      const end = await life.ended
      if (end !== 'SIGKILL')
        crashes.contradictions.push(`after ${crashes.kills} kills: the process ended with ${end}`)
      if (armed !== null && cut?.fired === false)
        crashes.atPoints.set(armed.point, (crashes.atPoints.get(armed.point) ?? 0) + 1)
      clearTimeout(cut?.timer)
      if (isLast) break
      crashes.kills += 1
    }
  } finally {
    await rm(dataFolder, { recursive: true, force: true })
    await rm(built, { recursive: true, force: true })
  }
  return crashes
}

function armedFor(at: number, next: () => number): Armed | null {
  if (at >= failPoints.length && at % 2 === 1) return null
  const point = failPoints[(at < failPoints.length ? at : at >> 1) % failPoints.length] as FailPoint
  return {
    point,
    arrival: 1 + Math.floor(next() * (LARGEST_ARRIVAL[point.split(':', 1)[0] ?? ''] ?? 1)),
  }
}

/** A process that is killed while it is checked is checked after its next start. */
function noneOfTheKilled(error: unknown): string[] {
  if (error instanceof Killed) return []
  throw error
}

/** A random moment counts from the start of the process, or from when it has said its state. */
function killLater(
  life: Life,
  armed: Armed | null,
  next: () => number,
  laterMs: number,
): { fired: boolean; timer?: NodeJS.Timeout } {
  const cut: { fired: boolean; timer?: NodeJS.Timeout } = { fired: false }
  const kill = (): void => {
    cut.fired = true
    life.kill()
  }
  const [share, moment] = [next(), laterMs + next() * LONGEST_RANDOM_LIFE_MS]
  if (armed === null && share < SHARE_WHILE_STARTING) cut.timer = setTimeout(kill, moment)
  else
    void life.state.then(
      () => (cut.timer = setTimeout(kill, armed === null ? moment : LONGEST_LIFE_MS)),
    )
  return cut
}
