/**
 * `tandem bench-model`: how fast the graphs of a bundle are on this machine, and what it finds,
 * beside another one.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { readConfig, type Config } from '../config.js'
import { graphSpeeds, verifyBundle, type GraphSpeed } from '../model/models.js'
import { readShards, shardsOf, type CaptionedImage } from './dataset.js'
import { evaluate, type Evaluation } from './evaluate.js'
import type { RecallFigures } from './recall.js'
import { ownService } from './service.js'
import { printLine, type Terminal } from './terminal.js'

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
  /** Of each bundle, where images with captions were given. */
  found: Evaluation[]
}

export function addBenchModelCommand(
  program: Command,
  terminal: Terminal,
  wholeNumber: (least: number, most: number) => (raw: string) => number,
): void {
  program
    .command('bench-model')
    .description(
      'measure how fast the graphs of a bundle are on this machine and, given images with captions, what it finds',
    )
    .argument('<folder>', 'folder of the bundle')
    .option(
      '--against <folder>',
      'another bundle, in turns with the first: of another precision, say',
    )
    .option(
      '--data <dataset>',
      'a WebDataset shard (.tar), or a folder of shards, to measure recall@k on',
    )
    .option(
      '--images <count>',
      'the first images of the dataset',
      wholeNumber(1, Number.MAX_SAFE_INTEGER),
      200,
    )
    .option(
      '--rounds <count>',
      'runs of each batch, of which the median counts',
      wholeNumber(1, 10_000),
      15,
    )
    .option('--json', 'print the figures as JSON')
    .action(async (folder: string, options: BenchModelFlags) => {
      const report = await benchModel(folder, options, readConfig(process.env), terminal)
      for (const line of options.json === true
        ? [JSON.stringify(report, null, 2)]
        : benchModelLines(report))
        printLine(terminal.out, line)
    })
}

/** @throws with a sentence fit for a terminal where a bundle or the dataset cannot be used */
export async function benchModel(
  folder: string,
  options: BenchModelFlags,
  config: Config,
  terminal: Terminal,
): Promise<BenchModelReport> {
  const folders = [folder, ...(options.against === undefined ? [] : [options.against])].map((one) =>
    resolve(one),
  )
  const bundles = await Promise.all(folders.map(about))
  const images =
    options.data === undefined
      ? []
      : (await readShards(await shardsOf(options.data), LANGUAGE)).slice(0, options.images)
  if (options.data !== undefined && images.length === 0)
    throw new Error(`${options.data} holds no image with captions in "${LANGUAGE}".`)
  printLine(terminal.err, 'running the graphs')
  const threads = [...new Set([1, availableParallelism()])]
  const speeds = await graphSpeeds(folders, { threads, rounds: options.rounds, tokens: TOKENS })
  const found: Evaluation[] = []
  if (images.length > 0)
    for (const one of folders) found.push(await searched(one, images, config, terminal))
  return { bundles, speeds, found }
}

async function about(folder: string): Promise<BenchModelReport['bundles'][number]> {
  const { manifest } = await verifyBundle(folder)
  const parts = [manifest.image_encoder, manifest.text_encoder, manifest.fusion_encoder]
  const precisions = new Set(
    parts.flatMap((part) => (part === undefined ? [] : [part.precision ?? 'fp32'])),
  )
  return { name: manifest.name, version: manifest.version, precisions: [...precisions] }
}

/** What a service with that bundle finds, over HTTP, as clients would. */
async function searched(
  modelFolder: string,
  images: readonly CaptionedImage[],
  config: Config,
  terminal: Terminal,
): Promise<Evaluation> {
  const dataFolder = await mkdtemp(join(tmpdir(), 'tandem-bench-model-'))
  try {
    const service = await ownService({ ...config, modelFolder, dataFolder, port: 0 })
    try {
      return await evaluate(
        service.client,
        images,
        { candidates: CANDIDATES, rerank: true, imageToText: true },
        terminal,
      )
    } finally {
      await service.close()
    }
  } finally {
    await rm(dataFolder, { recursive: true })
  }
}

/** The report as tables for people. */
export function benchModelLines({ bundles, speeds, found }: BenchModelReport): string[] {
  const [first, second] = bundles.map(
    ({ name, version, precisions }) => `${name} ${version} (${precisions.join(', ')})`,
  )
  const cells = (...values: string[]): string =>
    values.map((value, at) => (at === 0 ? value.padEnd(30) : value.padStart(9))).join('')
  const beside = second === undefined ? [] : ['against', 'faster']
  const lines = [
    second === undefined ? (first ?? '') : `${first}, against ${second}`,
    `Milliseconds of a batch, texts of ${TOKENS} tokens`,
    cells('graph', 'threads', 'rows', 'ms', ...beside),
    ...speeds.map(({ graph, threads, rows, milliseconds: [own = Number.NaN, other] }) => {
      const ratio = other === undefined ? [] : [other.toFixed(1), `${(other / own).toFixed(2)}×`]
      return cells(graph, String(threads), String(rows), own.toFixed(1), ...ratio)
    }),
  ]
  const [own, other] = found
  if (own === undefined) return lines
  const points = (value: number): string => `${value > 0 ? '+' : ''}${value.toFixed(1)}`
  const recall = (what: string, pick: (one: Evaluation) => RecallFigures | undefined): string[] => {
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
    `Recall, in per cent: ${own.images} images, ${own.captions} captions, ${own.candidates} candidates`,
    cells('', 'found', ...(other === undefined ? [] : ['against', 'points'])),
    ...recall('text→image, similarity', (one) => one.text_to_image.similarity),
    ...recall('text→image, rerank', (one) => one.text_to_image.rerank),
    ...recall('image→text, similarity', (one) => one.image_to_text?.similarity),
    ...recall('image→text, rerank', (one) => one.image_to_text?.rerank),
  ]
}
