/**
 * `tandem bench-model`: speed and recall of a bundle on this machine, compared with another one.
 */
import { availableParallelism } from 'node:os'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { readConfig, type Config } from '../config.js'
import { graphSpeeds } from '../model/open.js'
import { textEncodersOf } from '../model/bundle/bundle.js'
import { openBundle } from '../model/bundle/open.js'
import type { GraphSpeed } from '../model/onnx/graph-speed.js'
import { readCaptionedImages } from './captions/dataset.js'
import { evaluate, type Evaluation } from './evaluate.js'
import { wholeNumber } from './options.js'
import type { RecallFigures } from './recall.js'
import { withEmptyService } from './service.js'
import { printLine, type Terminal } from './terminal/terminal.js'

const TOKENS = 16
const CANDIDATES = 64
const LANGUAGE = 'en'

interface BenchModelFlags {
  against?: string
  data?: string
  images: number
  rounds: number
  json?: boolean
}

export interface BenchModelReport {
  bundles: { name: string; version: string; precisions: string[] }[]
  speeds: GraphSpeed[]
  /** One for each bundle; empty without a dataset. */
  recall: Evaluation[]
}

export function addBenchModelCommand(program: Command, terminal: Terminal): void {
  program
    .command('bench-model')
    .description(
      'measure the speed of a bundle on this machine, and its recall@k on images with captions',
    )
    .argument('<folder>', 'folder of the bundle')
    .option(
      '--against <folder>',
      'another bundle to compare with, such as one of another precision',
    )
    .option('--data <dataset>', 'a WebDataset shard (.tar), or a folder of shards, for recall@k')
    .option(
      '--images <count>',
      'number of images of the dataset',
      wholeNumber(1, Number.MAX_SAFE_INTEGER),
      200,
    )
    .option('--rounds <count>', 'runs of each batch; the median counts', wholeNumber(1, 10_000), 15)
    .option('--json', 'print the figures as JSON')
    .action(async (folder: string, options: BenchModelFlags) => {
      const report = await benchModel(folder, options, readConfig(process.env), terminal)
      for (const line of options.json === true
        ? [JSON.stringify(report, null, 2)]
        : benchModelLines(report))
        printLine(terminal.out, line)
    })
}

/** @throws Error if a bundle or the dataset cannot be used */
export async function benchModel(
  folder: string,
  options: BenchModelFlags,
  config: Config,
  terminal: Terminal,
): Promise<BenchModelReport> {
  const folders = [folder, ...(options.against === undefined ? [] : [options.against])].map(
    (path) => resolve(path),
  )
  const bundles = await Promise.all(folders.map(about))
  const images =
    options.data === undefined
      ? []
      : await readCaptionedImages(options.data, LANGUAGE, options.images)
  printLine(terminal.err, 'running the graphs')
  const threads = [...new Set([1, availableParallelism()])]
  const speeds = await graphSpeeds(folders, { threads, rounds: options.rounds, tokens: TOKENS })
  const recall: Evaluation[] = []
  const evaluation = { candidates: CANDIDATES, rerank: true, imageToText: true, language: 'en' }
  for (const modelFolder of images.length > 0 ? folders : [])
    recall.push(
      await withEmptyService({ ...config, modelFolder }, (client) =>
        evaluate(client, images, evaluation, terminal),
      ),
    )
  return { bundles, speeds, recall }
}

async function about(folder: string): Promise<BenchModelReport['bundles'][number]> {
  const { manifest } = await openBundle(folder)
  const parts = [manifest.image_encoder, ...textEncodersOf(manifest), manifest.fusion_encoder]
  const precisions = new Set(
    parts.flatMap((part) => (part === undefined ? [] : [part.precision ?? 'fp32'])),
  )
  return { name: manifest.name, version: manifest.version, precisions: [...precisions] }
}

/** The report as the lines of a table. */
export function benchModelLines({ bundles, speeds, recall }: BenchModelReport): string[] {
  const [first, second] = bundles.map(
    ({ name, version, precisions }) => `${name} ${version} (${precisions.join(', ')})`,
  )
  const cells = (...values: string[]): string =>
    values.map((value, at) => (at === 0 ? value.padEnd(30) : value.padStart(9))).join('')
  const comparison = second === undefined ? [] : ['against', 'faster']
  const lines = [
    second === undefined ? (first ?? '') : `${first}, against ${second}`,
    `Milliseconds of a batch, texts of ${TOKENS} tokens`,
    cells('graph', 'threads', 'rows', 'ms', ...comparison),
    ...speeds.map(({ graph, threads, rows, milliseconds: [own = Number.NaN, other] }) => {
      const ratio = other === undefined ? [] : [other.toFixed(1), `${(other / own).toFixed(2)}×`]
      return cells(graph, String(threads), String(rows), own.toFixed(1), ...ratio)
    }),
  ]
  const [own, other] = recall
  if (own === undefined) return lines
  const points = (value: number): string => `${value > 0 ? '+' : ''}${value.toFixed(1)}`
  const rows = (
    what: string,
    pick: (evaluation: Evaluation) => RecallFigures | undefined,
  ): string[] => {
    const [mine, theirs] = [pick(own), other === undefined ? undefined : pick(other)]
    if (mine === undefined) return []
    return (['r1', 'r5', 'r10'] as const).map((at) => {
      const difference =
        theirs === undefined ? [] : [theirs[at].toFixed(1), points(mine[at] - theirs[at])]
      return cells(`${what} R@${at.slice(1)}`, mine[at].toFixed(1), ...difference)
    })
  }
  return [
    ...lines,
    '',
    `Recall in per cent: ${own.images} images, ${own.captions} captions, ${own.candidates} candidates`,
    cells('', 'recall', ...(other === undefined ? [] : ['against', 'points'])),
    ...rows('text→image, similarity', (figures) => figures.text_to_image.similarity),
    ...rows('text→image, rerank', (figures) => figures.text_to_image.rerank),
    ...rows('image→text, similarity', (figures) => figures.image_to_text?.similarity),
    ...rows('image→text, rerank', (figures) => figures.image_to_text?.rerank),
  ]
}
