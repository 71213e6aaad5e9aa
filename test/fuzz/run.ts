/**
 * The long run: `npm run fuzz -- --images 100000 --requests 100000 [--seed 7]`. Findings go to
 * test/fuzz/corpus for the tests; the outcome replaces the one in docs/reliability.md.
 */
import { parseArgs } from 'node:util'
import { replaceBetween } from '../../scripts/reliability-page.js'
import { runCampaign, type Campaign, type Case } from './campaign.js'
import { keep } from './corpus.js'
import { mutatedImages } from './images.js'
import { mutatedRequests } from './requests.js'

/** Allowed growth of memory after the warm-up, which is the noise of garbage collection. */
const GROWTH_ALLOWED = 0.15

const { values } = parseArgs({
  options: {
    images: { type: 'string', default: '100000' },
    requests: { type: 'string', default: '100000' },
    seed: { type: 'string' },
  },
})
const seed = Number(values.seed ?? Date.now() % 1_000_000)
process.stderr.write(`seed ${seed}\n`)

async function run(
  name: string,
  count: number,
  cases: Iterable<Case>,
): Promise<{ name: string; outcome: Campaign; seconds: number }> {
  const begun = performance.now()
  const elapsed = (): number => Math.round((performance.now() - begun) / 1000)
  const outcome = await runCampaign(cases, count, ({ sent, findings }) =>
    process.stderr.write(
      `${name}: ${sent} of ${count}, ${findings.length} findings, ${elapsed()} s\n`,
    ),
  )
  for (const finding of outcome.findings)
    process.stderr.write(`${finding.fault}\n  kept as ${keep(finding)}\n`)
  return { name, outcome, seconds: elapsed() }
}

const inMiB = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`
const grows = ({ memory }: Campaign): boolean =>
  memory !== null && memory.end > memory.warm * (1 + GROWTH_ALLOWED)

const runs = [
  await run(
    'mutated images',
    Number(values.images),
    await mutatedImages(Number(values.images), seed),
  ),
  await run(
    'mutated requests',
    Number(values.requests),
    mutatedRequests(Number(values.requests), seed),
  ),
]
const rows = runs.map(({ name, outcome, seconds }) => {
  const { sent, refusals, deaths, findings, slowestMs, memory, byStatus } = outcome
  const statuses = [...byStatus]
    .sort(([a], [b]) => a - b)
    .map(([status, count]) => `${status}: ${count}`)
  const held = memory === null ? 'not measured' : `${inMiB(memory.warm)} → ${inMiB(memory.end)}`
  return `| ${name} | ${sent} | ${refusals} | ${deaths} | ${findings.length} | ${Math.round(slowestMs)} ms | ${held} | ${seconds} s | ${statuses.join(', ')} |`
})
replaceBetween('fuzz', [
  `Seed ${seed}, Node ${process.versions.node} on ${process.platform}, ${new Date().toISOString().slice(0, 10)}.`,
  '',
  '| | tried | sent again, the service being busy | crashes | findings | slowest answer | memory, half-way → end | time | answers by status |',
  '|---|---:|---:|---:|---:|---:|---|---:|---|',
  ...rows,
])
for (const { name, outcome } of runs)
  if (grows(outcome)) process.stderr.write(`${name}: memory grows\n`)
process.exitCode = runs.some(({ outcome }) => outcome.findings.length > 0 || grows(outcome)) ? 1 : 0
