/**
 * `npm run bench -- [NAME…] [--full | --smoke]`: runs all benchmarks or those named, keeps their
 * figures in bench/results/ and writes docs/benchmarks.md anew. A smoke run keeps nothing. Ends
 * with 1 where one fails.
 */
import { parseArgs } from 'node:util'
import { BenchSkipped, type Scale } from './bench.js'
import { benches } from './benches.js'
import { writePage } from './page.js'
import { keepResult } from './results.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    full: { type: 'boolean', default: false },
    smoke: { type: 'boolean', default: false },
  },
})
const known = benches.map(({ name }) => name)
const unknown = positionals.filter((name) => !known.includes(name))
if (unknown.length > 0)
  throw new Error(`there is no benchmark ${unknown.join(', ')}; there are ${known.join(', ')}`)
if (values.full && values.smoke) throw new Error('--full and --smoke exclude each other')
const scale: Scale = values.full ? 'full' : values.smoke ? 'smoke' : 'quick'
// Workers and stores do not keep the event loop alive.
const running = setInterval(() => undefined, 60_000)
const ran: string[] = []
for (const bench of benches.filter(
  ({ name }) => positionals.length === 0 || positionals.includes(name),
)) {
  process.stderr.write(`== ${bench.name}\n`)
  try {
    const figures = await bench.run(scale)
    // As they will be parsed from the file.
    process.stdout.write(`${bench.page(JSON.parse(JSON.stringify(figures)))}\n`)
    if (scale === 'smoke') continue
    keepResult(bench.name, scale, figures)
    ran.push(bench.name)
  } catch (error) {
    if (!(error instanceof BenchSkipped)) process.exitCode = 1
    process.stderr.write(
      `${bench.name}: ${error instanceof BenchSkipped ? `skipped, ${error.message}` : String((error as Error).stack)}\n`,
    )
  }
}
clearInterval(running)
if (ran.length > 0) await writePage(ran)
