/** `tandem evaluate`: recall@k of the standard retrieval protocol, through the HTTP API. */
import type { Command } from 'commander'
import { readConfig } from '../config.js'
import type { Client } from './client.js'
import { readCaptionedImages, type CaptionedImage } from './captions/dataset.js'
import { wholeNumber, withServiceOptions, type ServiceOptions } from './options.js'
import { orderBySimilarity, rankOf, recallFigures, type RecallFigures } from './recall.js'
import { withEmptyService, withService } from './service.js'
import { printLine, startProgress, type Terminal } from './terminal/terminal.js'

const CONCURRENT_REQUESTS = 8
const MAX_K = 10
const TEXTS_PER_REQUEST = 64
const IMAGES_PER_REQUEST = 4

export interface Direction {
  similarity: RecallFigures
  rerank?: RecallFigures
}

export interface Evaluation {
  /** Its name. */
  bundle: string
  images: number
  captions: number
  candidates: number
  text_to_image: Direction
  image_to_text?: Direction
}

export interface EvaluateOptions {
  /** Number of candidates for rerank. */
  candidates: number
  rerank: boolean
  /** Measures image → sentence, too, which takes longer than sentence → image. */
  imageToText: boolean
  /** Of the captions; a service does not identify it then. */
  language: string
}

interface EvaluateFlags extends ServiceOptions, EvaluateOptions {
  limit: number
  json?: boolean
}

export function addEvaluateCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command('evaluate')
    .description('measure recall@k on images with captions, through the HTTP API')
    .argument('<dataset>', 'a WebDataset shard (.tar), or a folder of shards')
    .option('--candidates <count>', 'candidates for rerank', wholeNumber(10, 1000), 64)
    .option('--no-rerank', 'measure only the dual encoder')
    .option('--no-image-to-text', 'measure only sentence → image, which is faster')
    .option('--language <code>', 'language of the captions', 'en')
    .option(
      '--limit <images>',
      'measure only the first images',
      wholeNumber(1, Number.MAX_SAFE_INTEGER),
      Infinity,
    )
    .option('--json', 'print the figures as JSON')
  withServiceOptions(command, 'a temporary empty one').action(
    async (dataset: string, options: EvaluateFlags) => {
      const images = await readCaptionedImages(dataset, options.language, options.limit)
      const config = readConfig(process.env)
      const work = (client: Client): Promise<Evaluation> =>
        evaluate(client, images, options, terminal)
      const result = await (options.url === undefined
        ? withEmptyService(config, work)
        : withService(options, config, work))
      printLine(
        terminal.out,
        options.json === true
          ? JSON.stringify({ dataset, ...result }, null, 2)
          : evaluationTable(result),
      )
    },
  )
}

interface Caption {
  key: string
  text: string
}

/** Runs `work` on a few of `all` at a time, with progress. Results keep the order. */
async function forAll<In, Out>(
  all: readonly In[],
  unit: string,
  terminal: Terminal,
  work: (entry: In) => Promise<Out>,
): Promise<Out[]> {
  const progress = startProgress(terminal, all.length, unit)
  const results = new Array<Out>(all.length)
  const queue = all.entries()
  const worker = async (): Promise<void> => {
    for (const [at, entry] of queue) {
      results[at] = await work(entry)
      progress.advance()
    }
  }
  try {
    await Promise.all(Array.from({ length: CONCURRENT_REQUESTS }, worker))
  } finally {
    progress.stop()
  }
  return results
}

function chunks<Entry>(all: readonly Entry[], size: number): Entry[][] {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, at) =>
    all.slice(at * size, (at + 1) * size),
  )
}

/** @throws Error if the service stores other items, which would take ranks */
async function storeImages(
  client: Client,
  images: readonly CaptionedImage[],
  terminal: Terminal,
): Promise<void> {
  const keys = new Set(images.map(({ key }) => key))
  for await (const { id } of client.items()) {
    if (!keys.has(id))
      throw new Error(
        `The service already stores other items ("${id}"): recall@k needs a service with only the images of the dataset.`,
      )
  }
  await forAll(images, 'images stored', terminal, ({ key, image, mime }) =>
    client.put(key, image, mime, {}),
  )
}

/** Rank of the correct image for each caption, by `GET /search`. */
function textToImage(
  client: Client,
  captions: readonly Caption[],
  rerank: boolean,
  options: EvaluateOptions,
  terminal: Terminal,
): Promise<number[]> {
  const unit = rerank ? 'captions searched with rerank' : 'captions searched'
  return forAll(captions, unit, terminal, async ({ key, text }) => {
    const { hits } = await client.search(text, {
      k: MAX_K,
      rerank,
      candidates: options.candidates,
      language: options.language,
    })
    return rankOf(hits, ({ id }) => id === key)
  })
}

/** For each image, the indices of all captions by similarity; embeddings by `POST /embed`. */
async function captionOrders(
  client: Client,
  images: readonly CaptionedImage[],
  captions: readonly Caption[],
  terminal: Terminal,
): Promise<number[][]> {
  const texts = await forAll(
    chunks(captions, TEXTS_PER_REQUEST),
    'batches of captions embedded',
    terminal,
    (chunk) => client.embed(chunk.map(({ text }) => ({ text }))),
  )
  const embeddings = await forAll(
    chunks(images, IMAGES_PER_REQUEST),
    'batches of images embedded',
    terminal,
    (chunk) =>
      client.embed(chunk.map(({ image }) => ({ image: Buffer.from(image).toString('base64') }))),
  )
  const candidates = texts.flat()
  return embeddings.flat().map((embedding) => orderBySimilarity(embedding, candidates))
}

async function imageToText(
  client: Client,
  images: readonly CaptionedImage[],
  captions: readonly Caption[],
  options: EvaluateOptions,
  terminal: Terminal,
): Promise<Direction> {
  const orders = await captionOrders(client, images, captions, terminal)
  const rankFor = (image: number, order: readonly number[]): number =>
    rankOf(order, (caption) => captions[caption]?.key === images[image]?.key)
  const similarity = recallFigures(orders.map((order, image) => rankFor(image, order)))
  if (!options.rerank) return { similarity }
  const ranks = await forAll(
    [...orders.entries()],
    'images reranked',
    terminal,
    async ([image, order]) => {
      const recalled = order.slice(0, options.candidates)
      const texts = recalled.map((caption) => captions[caption]?.text ?? '')
      const reordered = await client.rerankTexts(images[image]?.key ?? '', texts, options.language)
      return rankFor(
        image,
        reordered.map((at) => recalled[at] ?? -1),
      )
    },
  )
  return { similarity, rerank: recallFigures(ranks) }
}

/** Gives every image a key of its own, which is its id. Of two equal keys one becomes `key~2`. */
function withOwnKeys(images: readonly CaptionedImage[]): CaptionedImage[] {
  const taken = new Set(images.map(({ key }) => key))
  const seen = new Set<string>()
  return images.map((image) => {
    let { key } = image
    for (let at = 2; seen.has(key) || (key !== image.key && taken.has(key)); at += 1)
      key = `${image.key}~${at}`
    seen.add(key)
    return { ...image, key }
  })
}

/** Stores the images of a dataset and measures recall by similarity and with rerank. */
export async function evaluate(
  client: Client,
  dataset: readonly CaptionedImage[],
  options: EvaluateOptions,
  terminal: Terminal,
): Promise<Evaluation> {
  const images = withOwnKeys(dataset)
  const captions = images.flatMap(({ key, captions: texts }) =>
    texts.map((text) => ({ key, text })),
  )
  await storeImages(client, images, terminal)
  const similarity = recallFigures(await textToImage(client, captions, false, options, terminal))
  const reranked = options.rerank
    ? { rerank: recallFigures(await textToImage(client, captions, true, options, terminal)) }
    : {}
  return {
    bundle: await client.bundleName(),
    images: images.length,
    captions: captions.length,
    candidates: options.candidates,
    text_to_image: { similarity, ...reranked },
    ...(options.imageToText
      ? { image_to_text: await imageToText(client, images, captions, options, terminal) }
      : {}),
  }
}

/** The figures as a table, one row for each direction and order. */
export function evaluationTable(result: Evaluation): string {
  const figure = (value: number): string => value.toFixed(1).padStart(7)
  const row = (label: string, figures: RecallFigures | undefined): string[] =>
    figures === undefined
      ? []
      : [`${label.padEnd(30)}${figure(figures.r1)}${figure(figures.r5)}${figure(figures.r10)}`]
  const depth = `rerank of ${result.candidates}`
  return [
    `${result.bundle}: ${result.images} images, ${result.captions} captions`,
    `${''.padEnd(30)}${['R@1', 'R@5', 'R@10'].map((name) => name.padStart(7)).join('')}`,
    ...row('text→image, similarity', result.text_to_image.similarity),
    ...row(`text→image, ${depth}`, result.text_to_image.rerank),
    ...row('image→text, similarity', result.image_to_text?.similarity),
    ...row(`image→text, ${depth}`, result.image_to_text?.rerank),
  ].join('\n')
}
