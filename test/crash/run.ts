/**
 * The long crash test: `npm run crash -- --kills 1000 [--seed 7]`. Runs concurrently on several
 * data folders. Ctrl-C ends it after the current runs. Writes its result into docs/reliability.md.
 */
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { replaceBetween } from '../../scripts/reliability-page.js'
import { runCrashes, type Crashes } from './crashes.js'
import { failPoints } from './fail-points.js'

/** Two for each core: a service waits for the disk about half of the time. */
const FOLDERS = Math.min(4, availableParallelism() * 2)

const { values } = parseArgs({
  options: { kills: { type: 'string', default: '1000' }, seed: { type: 'string' } },
})
const seed = Number(values.seed ?? Date.now() % 1_000_000)
const kills = Number(values.kills)
let isContinued = true
process.once('SIGINT', () => (isContinued = false))
process.stderr.write(`seed ${seed}\n`)
const startTime = performance.now()
const sum = (numbers: readonly number[]): number =>
  numbers.reduce((total, value) => total + value, 0)
const latest: Crashes[] = []
const all = await Promise.all(
  Array.from({ length: FOLDERS }, (_, folder) =>
    runCrashes({
      kills: Math.floor((kills + folder) / FOLDERS),
      seed: seed + folder * 1_000_003,
      shouldContinue: (crashes) => {
        latest[folder] = crashes
        const killsByNow = sum(latest.map((crashes) => crashes.kills))
        if (killsByNow % 20 === 0)
          process.stderr.write(
            `${killsByNow} kills, ${Math.round((performance.now() - startTime) / 1000)} s\n`,
          )
        return isContinued && latest.every(({ contradictions }) => contradictions.length === 0)
      },
    }),
  ),
)
const total = (read: (crashes: Crashes) => number): number => sum(all.map(read))
const contradictions = all.flatMap((crashes) => crashes.contradictions)
const atPoints = failPoints.map((point) => ({
  point,
  count: total((crashes) => crashes.atPoints.get(point) ?? 0),
}))
const killCount = total((crashes) => crashes.kills)
replaceBetween('crash', [
  `Seed ${seed}, Node ${process.versions.node} on ${process.platform}, ${new Date().toISOString().slice(0, 10)}.`,
  '',
  '| kill -9 | kills |',
  '|---|---:|',
  ...atPoints.map(({ point, count }) => `| ${point} | ${count} |`),
  `| at a random moment | ${killCount - sum(atPoints.map(({ count }) => count))} |`,
  `| **together** | **${killCount}** |`,
  '',
  `Acknowledged writes: ${total(({ acknowledged }) => acknowledged)}. Acknowledged changes of the bundle: ${total(({ bundleChanges }) => bundleChanges)}. ` +
    `Migrations: ${total(({ migrations }) => migrations)}. Kills of the index's process alone: ${total(({ indexKills }) => indexKills)}. ` +
    `Contradictions found: ${contradictions.length}.`,
])
for (const sentence of contradictions) process.stderr.write(`${sentence}\n`)
process.exitCode = contradictions.length > 0 ? 1 : 0
