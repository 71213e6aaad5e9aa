/**
 * The long run: `npm run worker-death -- --kills 60 [--seed 7] [--model tandem-small]`. Ctrl-C ends
 * it after the present death. Its outcome replaces the one in docs/reliability.md. Ends with 1
 * where something is not as it must be.
 */
import { cpus } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { packageFolder } from '../../src/config.js'
import { replaceBetween } from '../../scripts/reliability-page.js'
import { LONGEST_MS, runDeaths } from './deaths.js'
import { workers } from './service.js'

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '60' },
    seed: { type: 'string' },
    model: { type: 'string', default: join(packageFolder, 'test/fixtures/tiny-bundle') },
  },
})
const seed = Number(values.seed ?? Date.now() % 1_000_000)
let isOver = false
process.once('SIGINT', () => (isOver = true))
const { deaths, counts } = await runDeaths({
  kills: Number(values.kills),
  seed,
  model: values.model,
  goOn: (soFar) => {
    const last = soFar.at(-1)
    if (last !== undefined)
      process.stderr.write(`${soFar.length} ${last.worker}: ${last.milliseconds.toFixed(0)} ms\n`)
    return !isOver
  },
})
const seconds = (milliseconds: number | undefined): string =>
  ((milliseconds ?? 0) / 1000).toFixed(1)
const rows = workers.map((worker) => {
  const own = deaths.filter((death) => death.worker === worker)
  const times = own.map(({ milliseconds }) => milliseconds).sort((a, b) => a - b)
  const refused = own.reduce((sum, death) => sum + death.refused, 0)
  return `| ${worker} | ${own.length} | ${refused} | ${seconds(times[times.length >> 1])} | ${seconds(times.at(-1))} |`
})
replaceBetween('worker-death', [
  `Seed ${seed}, bundle ${values.model.split('/').at(-1)}, Node ${process.versions.node} on ${process.platform}, ` +
    `${cpus().length} cores, ${new Date().toISOString().slice(0, 10)}.`,
  '',
  '| worker | kill -9 | requests refused with 503 | seconds until the last refusal, median | most |',
  '|---|---:|---:|---:|---:|',
  ...rows,
  '',
  `Requests: ${counts.requests}, of them ${counts.acknowledged} acknowledged writes. ` +
    `Other errors, wrong answers and lost writes: ${counts.wrong.length}.`,
])
for (const sentence of counts.wrong.slice(0, 50)) process.stderr.write(`${sentence}\n`)
const slow = deaths.some(({ milliseconds }) => milliseconds > LONGEST_MS)
process.exitCode = counts.wrong.length > 0 || slow ? 1 : 0
