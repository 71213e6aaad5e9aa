/** docs/benchmarks.md and its plots, from the kept results. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'
import { parse, View } from 'vega'
import { compile, type TopLevelSpec } from 'vega-lite'
import { packageFolder } from '../src/config.js'
import type { Bench } from './bench.js'
import { benches } from './benches.js'
import { keptResult, type Result } from './results.js'

export const page = join(packageFolder, 'docs', 'benchmarks.md')
const plots = join(packageFolder, 'docs', 'benchmarks')
/** Resolution of a plot in dots per inch; 72 is the size of its specification. */
const DENSITY = 144

const OPENING = `# Benchmarks

Written by \`npm run bench\` from \`bench/results/\`; no figure is written by hand. Each one stands beside a baseline that
was measured in the same run, in rounds that alternate: the ratio is what counts, for the machine is shared and its speed
changes by the hour. \`npm run bench\` takes some minutes, \`npm run bench -- --full\` about an hour, and either takes the names
of some benchmarks.`

/** The page made of the kept results. */
export function writtenPage(): string {
  return `${[OPENING, ...shown().map(({ bench, result }) => section(bench, result))].join('\n\n')}\n`
}

/** Writes the page, and the plots of `names`. */
export async function writePage(names: readonly string[]): Promise<void> {
  writeFileSync(page, writtenPage())
  for (const { bench, result } of shown()) {
    const drawn = names.includes(bench.name)
      ? Object.entries(bench.plots?.(result.figures) ?? {})
      : []
    for (const [name, plot] of drawn) await draw(name, plot)
  }
}

function shown(): { bench: Bench<unknown>; result: Result }[] {
  return benches.flatMap((bench) => {
    const result = keptResult(bench.name)
    return result === null ? [] : [{ bench, result }]
  })
}

function section(
  bench: Bench<unknown>,
  { scale, measured_on: on, machine, figures }: Result,
): string {
  const { processor, cores, memory_gib: memory, node, system } = machine
  const from = `${processor}, ${cores} cores, ${memory} GiB, ${system}, Node ${node}, ${on}`
  const short = scale === 'full' ? '' : `, a ${scale} run`
  return `## ${bench.title}\n\n${bench.page(figures)}\n\n\`npm run bench -- ${bench.name}\`; ${from}${short}.`
}

async function draw(name: string, plot: TopLevelSpec): Promise<void> {
  const svg = await new View(parse(compile(plot).spec), { renderer: 'none' }).toSVG()
  mkdirSync(plots, { recursive: true })
  await sharp(Buffer.from(svg), { density: DENSITY })
    .flatten({ background: 'white' })
    .png({ palette: true })
    .toFile(join(plots, `${name}.png`))
}
