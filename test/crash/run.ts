/**
 * The long crash test: `npm run crash -- --kills 1000 [--seed 7]`. Ctrl-C ends it after the present life. Its outcome
 * replaces the one in docs/reliability.md.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { packageFolder } from '../../src/config.js'
import { runCrashes, type Crashes } from './crashes.js'
import { failPoints } from './fail-points.js'

const BEGIN = '<!-- crash:begin -->'
const END = '<!-- crash:end -->'
const page = join(packageFolder, 'docs', 'reliability.md')

function table({ kills, atPoints, acknowledged, contradictions }: Crashes, seed: number): string {
  const atMoments = kills - [...atPoints.values()].reduce((sum, count) => sum + count, 0)
  return [
    `Seed ${seed}, Node ${process.versions.node} on ${process.platform}, ${new Date().toISOString().slice(0, 10)}.`,
    '',
    '| kill -9 | kills |',
    '|---|---:|',
    ...failPoints.map((point) => `| ${point} | ${atPoints.get(point) ?? 0} |`),
    `| at a random moment | ${atMoments} |`,
    `| **together** | **${kills}** |`,
    '',
    `Acknowledged writes: ${acknowledged}. Contradictions found: ${contradictions.length}.`,
  ].join('\n')
}

function write(text: string): void {
  const [before, rest] = readFileSync(page, 'utf8').split(BEGIN)
  const after = rest?.split(END)[1]
  if (after === undefined) throw new Error(`${page} lacks ${BEGIN} and ${END}`)
  writeFileSync(page, `${before}${BEGIN}\n${text}\n${END}${after}`)
}

const { values } = parseArgs({ options: { kills: { type: 'string', default: '1000' }, seed: { type: 'string' } } })
const seed = Number(values.seed ?? Date.now() % 1_000_000)
let goOn = true
process.once('SIGINT', () => (goOn = false))
process.stderr.write(`seed ${seed}\n`)
const crashes = await runCrashes({
  kills: Number(values.kills),
  seed,
  goOn: ({ kills, acknowledged }) => {
    if (kills % 20 === 0) process.stderr.write(`${kills} kills, ${acknowledged} acknowledged writes\n`)
    return goOn
  },
})
write(table(crashes, seed))
for (const sentence of crashes.contradictions) process.stderr.write(`${sentence}\n`)
process.exitCode = crashes.contradictions.length > 0 ? 1 : 0
