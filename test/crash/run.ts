/**
 * The long crash test: `npm run crash -- --kills 1000 [--seed 7]`. Runs on several data folders at
 * a time. Ctrl-C ends it after the present lives. Its outcome replaces the one in
 * docs/reliability.md.
 */
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { replaceBetween } from '../../scripts/reliability-page.js'
import { runCrashes, type Crashes } from './crashes.js'
import { failPoints } from './fail-points.js'

/** A life waits for the disk and for its turn about as long as it computes. */
const FOLDERS = Math.min(4, availableParallelism() * 2)

const { values } = parseArgs({
  options: { kills: { type: 'string', default: '1000' }, seed: { type: 'string' } },
})
const seed = Number(values.seed ?? Date.now() % 1_000_000)
const kills = Number(values.kills)
let goOn = true
process.once('SIGINT', () => (goOn = false))
process.stderr.write(`seed ${seed}\n`)
const begun = performance.now()
const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0)
const soFar: Crashes[] = []
const all = await Promise.all(
  Array.from({ length: FOLDERS }, (_, folder) =>
    runCrashes({
      kills: Math.floor((kills + folder) / FOLDERS),
      seed: seed + folder * 1_000_003,
      goOn: (crashes) => {
        soFar[folder] = crashes
        const together = sum(soFar.map((one) => one.kills))
        if (together % 20 === 0)
          process.stderr.write(
            `${together} kills, ${Math.round((performance.now() - begun) / 1000)} s\n`,
          )
        return goOn && soFar.every(({ contradictions }) => contradictions.length === 0)
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
const together = total((crashes) => crashes.kills)
replaceBetween('crash', [
  `Seed ${seed}, Node ${process.versions.node} on ${process.platform}, ${new Date().toISOString().slice(0, 10)}.`,
  '',
  '| kill -9 | kills |',
  '|---|---:|',
  ...atPoints.map(({ point, count }) => `| ${point} | ${count} |`),
  `| at a random moment | ${together - sum(atPoints.map(({ count }) => count))} |`,
  `| **together** | **${together}** |`,
  '',
  `Acknowledged writes: ${total((one) => one.acknowledged)}. Acknowledged changes of the bundle: ${total((one) => one.bundleChanges)}. ` +
    `Migrations: ${total((one) => one.migrations)}. Deaths of the index's process alone: ${total((one) => one.indexDeaths)}. ` +
    `Contradictions found: ${contradictions.length}.`,
])
for (const sentence of contradictions) process.stderr.write(`${sentence}\n`)
process.exitCode = contradictions.length > 0 ? 1 : 0
