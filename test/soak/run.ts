/**
 * The soak: `npm run soak -- --minutes 20 [--seed 7]`. It offers the built service twice the rate
 * that it can answer, and writes its figures to docs/reliability.md. Ends with 1 if a limit is
 * exceeded.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { packageFolder } from '../../src/config.js'
import { replaceBetween } from '../../scripts/reliability-page.js'
import { quantile } from './figures.js'
import type { Outcome } from './requests.js'
import { runSoak, TOGETHER, type MemoryOverTime, type Soak } from './soak.js'

const KINDS = ['search', 'add', 'embed'] as const
const MIB = 1024 * 1024

const LOOP_P99_MS = 20
const REFUSAL_P99_MS = 50
/** The graph of the index is compacted after every 400. */
const REPLACEMENTS = 5000
/** Share of the accepted requests that has to be answered within the deadline. */
const IN_TIME = 0.99
/** Largest rise of memory in an hour, as a share of the median. */
const RISE_PER_HOUR = 0.1

const milliseconds = (outcomes: readonly Outcome[], share: number): string =>
  outcomes.length === 0
    ? '–'
    : quantile(
        outcomes.map((outcome) => outcome.milliseconds),
        share,
      ).toFixed(0)
const percent = (part: number, whole: number): string =>
  whole === 0 ? '–' : `${((100 * part) / whole).toFixed(2)} %`
const mib = (bytes: number): string => (bytes / MIB).toFixed(0)

function row(name: string, outcomes: readonly Outcome[]): string {
  const of = (fate: Outcome['fate']): Outcome[] =>
    outcomes.filter((outcome) => outcome.fate === fate)
  const [answered, late, refused, failed] = [
    of('answered'),
    of('late'),
    of('refused'),
    of('failed'),
  ]
  const accepted = answered.length + late.length + failed.length
  const cells = [
    name,
    outcomes.length,
    accepted,
    percent(answered.length, accepted),
    `${milliseconds(answered, 0.5)} / ${milliseconds(answered, 0.99)}`,
    refused.length,
    `${milliseconds(refused, 0.5)} / ${milliseconds(refused, 0.99)}`,
    failed.length,
  ]
  return `| ${cells.join(' | ')} |`
}

function overTime(memory: MemoryOverTime['anonymous'] | undefined): string {
  return memory === undefined
    ? '–'
    : `${mib(memory.perHour)} MiB/h (${mib(memory.min)} to ${mib(memory.max)} MiB)`
}

function isLevel(memory: MemoryOverTime['anonymous'] | undefined): boolean {
  return memory !== undefined && memory.perHour <= RISE_PER_HOUR * memory.median
}

/** Each requirement with its measurement, and whether it is met. */
function verdicts({ outcomes, loopDelay, refusals, memory }: Soak): [string, string, boolean][] {
  const refused = outcomes.filter(({ fate }) => fate === 'refused')
  const accepted = outcomes.length - refused.length
  const answered = outcomes.filter(({ fate }) => fate === 'answered').length
  const loop = loopDelay.quantile(0.99) * 1000
  const refusedMs =
    refused.length === 0
      ? 0
      : Number(
          quantile(
            refused.map((outcome) => outcome.milliseconds),
            0.99,
          ).toFixed(1),
        )
  const together = memory.get(TOGETHER)
  return [
    [
      'accepted requests answered inside their deadline',
      percent(answered, accepted),
      answered >= IN_TIME * accepted,
    ],
    [
      'event loop delay of the main process, p99',
      `at most ${loop} ms (${percent(loopDelay.shareUpTo(0.02), 1)} within 20 ms, ${loopDelay.count} samples)`,
      loop <= LOOP_P99_MS,
    ],
    ['refusals, p99 as the client sees it', `${refusedMs} ms`, refusedMs < REFUSAL_P99_MS],
    [
      'refusals within 50 ms, inside the service',
      percent(refusals.shareUpTo(0.05), 1),
      refusals.shareUpTo(0.05) >= 0.99,
    ],
    [
      'memory of all processes, anonymous',
      overTime(together?.anonymous),
      isLevel(together?.anonymous),
    ],
    [
      'memory of all processes, with mapped pages',
      overTime(together?.resident),
      isLevel(together?.resident),
    ],
  ]
}

function table(soak: Soak, seed: number): string {
  const { outcomes, cores, minutes, sustainable, offered, unsent, generatorDelayP99, memory } = soak
  return [
    `${minutes} minutes on ${cores} cores, which the load generator shares; seed ${seed}, Node ${process.versions.node} on ${process.platform}, ` +
      `${new Date().toISOString().slice(0, 10)}. Sustainable: ${sustainable.toFixed(1)} requests a second; offered: ${offered.toFixed(1)}.`,
    '',
    '| asked | requests | accepted | of those in time | their p50 / p99, ms | refused | refusals p50 / p99, ms | failed |',
    '|---|---:|---:|---:|---:|---:|---:|---:|',
    ...KINDS.map((kind) =>
      row(
        kind,
        outcomes.filter((outcome) => outcome.kind === kind),
      ),
    ),
    row('**together**', outcomes),
    '',
    '| requirement | measured | met |',
    '|---|---|---|',
    ...verdicts(soak).map(
      ([what, measured, met]) => `| ${what} | ${measured} | ${met ? 'yes' : '**no**'} |`,
    ),
    '',
    '| anonymous memory of | rise (least to most) |',
    '|---|---|',
    ...[...memory].map(([name, { anonymous }]) => `| ${name} | ${overTime(anonymous)} |`),
    '',
    `Not sent because 256 requests were running: ${unsent}. The generator's own event loop was up to ` +
      `${generatorDelayP99.toFixed(1)} ms late (p99), which the client's figures contain.`,
  ].join('\n')
}

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '20' },
    seed: { type: 'string', default: '1' },
    'ramp-seconds': { type: 'string', default: '10' },
    model: { type: 'string', default: join(packageFolder, 'models', 'tandem-small') },
    write: { type: 'boolean', default: true },
  },
  allowNegative: true,
})
const seed = Number(values.seed)
const soak = await runSoak({
  minutes: Number(values.minutes),
  model: values.model,
  seed,
  rampS: Number(values['ramp-seconds']),
  replacements: REPLACEMENTS,
  tell: (line) => process.stderr.write(`${line}\n`),
})
const text = table(soak, seed)
process.stdout.write(`${text}\n`)
if (values.write) replaceBetween('soak', [text])
process.exitCode = verdicts(soak).every(([, , met]) => met) ? 0 : 1
