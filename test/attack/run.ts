/**
 * The long run: `npm run attack -- [--seconds 10] [--requests 100000] [--stop-minutes 10]
 * [--rounds 5] [--seed 7] [--bundle tandem-small] [--only 9]`. Without options about half an hour,
 * with the tiny bundle of the tests and the shipped one. Writes its tables to docs/reliability.md.
 * `--only` takes the number of a fault, the beginning of an attack's name, or `silences` (single
 * requests), and writes nothing. Ends with 1 if anything is not as it must be.
 */
import { cpus } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { replaceBetween } from '../../scripts/reliability-page.js'
import { packageFolder } from '../../src/config.js'
import { jpeg } from '../support/images.js'
import { runAttack, type Outcome } from './attack.js'
import { attacks } from './attacks.js'
import { fuzzSockets } from './sockets.js'
import { Service } from './service.js'
import { MAX_SILENCE_MS, measureSilences, type Silence } from './silence.js'
import { MAX_FAILING_MS, stopWorkers, type Stops } from './stopped-workers.js'

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '10' },
    rounds: { type: 'string', default: '5' },
    requests: { type: 'string', default: '100000' },
    'stop-minutes': { type: 'string', default: '10' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    bundle: {
      type: 'string',
      multiple: true,
      default: ['test/fixtures/tiny-bundle', 'tandem-small'],
    },
    only: { type: 'string' },
  },
})
const seconds = Number(values.seconds)
const seed = Number(values.seed)
const models = values.bundle.map((bundle) =>
  bundle.includes('/') ? resolve(packageFolder, bundle) : join(packageFolder, 'models', bundle),
)
const [model = ''] = models
/** Connections of the fuzzer: 100,000 requests take some minutes. */
const FUZZED_SOCKETS = 80
const image = await jpeg()
const { only } = values
const SILENCES = 'silences'
const chosen = attacks.filter(
  ({ fault, name }) => only === undefined || String(fault) === only || name.startsWith(only),
)
if (chosen.length === 0 && only !== SILENCES)
  throw new Error(
    `No attack has the number or begins with "${only}"; there are "${SILENCES}" and ${attacks.map(({ fault, name }) => `${fault} "${name}"`).join(', ')}.`,
  )
const say = (line: string): void => void process.stderr.write(`${line}\n`)

const outcomes: (Outcome & { bundle: string })[] = []
/** What kept a part of the run from its end; the others go on. */
const broken: string[] = []
const silences: Silence[] = []
if ((only === undefined || only === SILENCES) && Number(values.rounds) > 0)
  await onService(model, async (service) => {
    silences.push(...(await measureSilences(service, Number(values.rounds))))
    for (const silence of silences) say(silenceRow(silence))
  })
for (const folder of models)
  for (const attack of chosen)
    await onService(folder, async (service) =>
      record(await runAttack(service, attack, { seconds, image, judgesTime: true }), folder),
    )
if (only === undefined && Number(values.requests) > 0) {
  const count = Number(values.requests)
  let isOver = false
  const attack = {
    fault: 1,
    name: `${count} requests of a fuzzer of raw sockets`,
    run: async (target: Parameters<typeof fuzzSockets>[0]): Promise<void> => {
      const statuses = await fuzzSockets(target, { count, seed, image, sockets: FUZZED_SOCKETS })
      say(JSON.stringify([...statuses].sort(([a], [b]) => a - b)))
      isOver = true
    },
  }
  await onService(model, async (service) =>
    // Ends with the requests, not with the time.
    record(
      await runAttack(service, attack, {
        ...{ seconds: Infinity, image, judgesTime: true },
        hasEnded: () => isOver,
      }),
      model,
    ),
  )
}
const stops: Stops[] = []
const stopEnd = performance.now() + Number(values['stop-minutes']) * 60_000
for (let round = 0; only === undefined && performance.now() < stopEnd; round += 1)
  await onService(models[round % models.length] ?? model, async (service) => {
    const outcome = await stopWorkers(service, {
      ...{ rounds: 6, seed: seed + round, image },
      allAtTheEnd: round % 2 === 1,
    })
    for (const { worker, milliseconds } of outcome.stopped)
      if (milliseconds > MAX_FAILING_MS)
        outcome.faults.push(
          `requests failed for ${milliseconds.toFixed(0)} ms while ${worker} stood`,
        )
    stops.push(outcome)
    say(JSON.stringify(outcome))
  })

if (only === undefined)
  replaceBetween('attack', [
    `Seed ${seed}, ${seconds} s an attack, Node ${process.versions.node} on ${process.platform}, ${cpus().length} cores, ${new Date().toISOString().slice(0, 10)}.`,
    '',
    '| fault | attack | bundle | requests of good clients | succeeded | p99, ms | memory before → most → after, MiB | left over or wrong |',
    '|---:|---|---|---:|---:|---:|---|---|',
    ...outcomes.map(rowOf),
    ...(stops.length === 0 ? [] : ['', ...stopLines(stops)]),
    ...(silences.length === 0 ? [] : ['', ...silenceLines()]),
    ...(broken.length === 0 ? [] : ['', `Not run to the end: ${broken.join('; ')}.`]),
  ])
const isLate = silences.some(({ milliseconds }) => milliseconds > MAX_SILENCE_MS)
const isFaulty = [...outcomes, ...stops].some(({ faults }) => faults.length > 0)
process.exitCode = isFaulty || isLate || broken.length > 0 ? 1 : 0

async function onService(folder: string, work: (service: Service) => Promise<void>): Promise<void> {
  let service: Service | undefined
  try {
    service = await Service.start(folder)
    await work(service)
  } catch (error) {
    broken.push((error as Error).message)
    say(`  ${String(error)}`)
  } finally {
    await service?.stop()
  }
}

function silenceLines(): string[] {
  return [
    `| a single request in this shape | MB | status | longest silence of the event loop, median of ${values.rounds}, ms |`,
    '|---|---:|---:|---:|',
    ...silences.map(silenceRow),
  ]
}

function silenceRow({ name, bytes, status, milliseconds }: Silence): string {
  return `| ${name} | ${(bytes / 1e6).toFixed(1)} | ${status} | ${milliseconds.toFixed(0)} |`
}

function record(outcome: Outcome, folder: string): void {
  const row = { ...outcome, bundle: folder.split('/').at(-1) ?? '' }
  outcomes.push(row)
  say(rowOf(row))
  for (const fault of outcome.faults) say(`  ${fault}`)
}

function rowOf(outcome: Outcome & { bundle: string }): string {
  const { attack, bundle, requests, succeeded, p99, memory, faults } = outcome
  const share = ((100 * succeeded) / Math.max(1, requests)).toFixed(2)
  const held = [memory.before, memory.most, memory.after].map((mib) => mib.toFixed(0)).join(' → ')
  return `| ${attack.fault} | ${attack.name} | ${bundle} | ${requests} | ${share} % | ${p99.toFixed(0)} | ${held} | ${faults.length === 0 ? 'nothing' : faults.join('; ')} |`
}

function stopLines(all: readonly Stops[]): string[] {
  const stopped = all.flatMap((one) => one.stopped)
  const workers = [...new Set(stopped.map(({ worker }) => worker))]
  const faults = all.flatMap((one) => one.faults)
  const ends = all.map(({ stopMs }) => stopMs ?? Infinity)
  return [
    '| SIGSTOP of | times | failed requests | seconds until the last failure, most |',
    '|---|---:|---:|---:|',
    ...workers.map((worker) => {
      const own = stopped.filter((one) => one.worker === worker)
      const failed = own.reduce((sum, one) => sum + one.failed, 0)
      const most = Math.max(...own.map(({ milliseconds }) => milliseconds))
      return `| ${worker} | ${own.length} | ${failed} | ${(most / 1000).toFixed(1)} |`
    }),
    '',
    `Answers: ${all.reduce((sum, one) => sum + one.answers, 0)}. SIGTERM ended the service within ${(Math.max(...ends) / 1000).toFixed(1)} s, also with all workers stopped. Wrong answers and other faults: ${faults.length === 0 ? 'none' : faults.slice(0, 5).join('; ')}.`,
  ]
}
