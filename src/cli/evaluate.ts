/**
 * `tandem evaluate`: recall@k by the standard retrieval protocol, measured through the HTTP API, so
 * that what is reported is what clients get.
 */
import type { Client } from './client.js'
import type { CaptionedImage } from './dataset.js'
import { orderBySimilarity, rankOf, recallFigures, type RecallFigures } from './recall.js'
import { startProgress, type Terminal } from './terminal.js'

const AT_ONCE = 8
const DEEPEST_K = 10
const TEXTS_A_REQUEST = 64
const IMAGES_A_REQUEST = 4

export interface Direction {
  similarity: RecallFigures
  rerank?: RecallFigures
}

export interface Evaluation {
  /** Name of the bundle that answered. */
  bundle: string
  images: number
  captions: number
  candidates: number
  text_to_image: Direction
  image_to_text?: Direction
}

export interface EvaluateOptions {
  /** Recall depth that is reranked. */
  candidates: number
  rerank: boolean
  /** Whether to measure image → sentence as well, which takes longer than the other direction. */
  imageToText: boolean
}

interface Caption {
  key: string
  text: string
}

/** Runs `work` over `all`, a few at a time, with progress; results keep the order. */
async function forAll<In, Out>(
  all: readonly In[],
  unit: string,
  terminal: Terminal,
  work: (one: In) => Promise<Out>,
): Promise<Out[]> {
  const progress = startProgress(terminal, all.length, unit)
  const results = new Array<Out>(all.length)
  const waiting = all.entries()
  const worker = async (): Promise<void> => {
    for (const [at, one] of waiting) {
      results[at] = await work(one)
      progress.advance()
    }
  }
  try {
    await Promise.all(Array.from({ length: AT_ONCE }, worker))
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

/**
 * Stores the images under their keys, after making sure that nothing else is stored that would take
 * ranks.
 */
async function storeImages(
  client: Client,
  images: readonly CaptionedImage[],
  terminal: Terminal,
): Promise<void> {
  const keys = new Set(images.map(({ key }) => key))
  for await (const { id } of client.items()) {
    if (!keys.has(id))
      throw new Error(
        `The service already stores other items ("${id}"): recall@k needs the images of the data set alone.`,
      )
  }
  await forAll(images, 'images stored', terminal, ({ key, image, mime }) =>
    client.put(key, image, mime, {}),
  )
}

/** Rank of the right image for each caption, through `GET /search`. */
function textToImage(
  client: Client,
  captions: readonly Caption[],
  rerank: boolean,
  options: EvaluateOptions,
  terminal: Terminal,
): Promise<number[]> {
  const unit = rerank ? 'captions asked with rerank' : 'captions asked'
  return forAll(captions, unit, terminal, async ({ key, text }) => {
    const { hits } = await client.search(text, {
      k: DEEPEST_K,
      rerank,
      candidates: options.candidates,
    })
    return rankOf(hits, ({ id }) => id === key)
  })
}

/**
 * For each image, the positions of all captions ordered by similarity; embeddings through `POST
 * /embed`.
 */
async function captionOrders(
  client: Client,
  images: readonly CaptionedImage[],
  captions: readonly Caption[],
  terminal: Terminal,
): Promise<number[][]> {
  const texts = await forAll(
    chunks(captions, TEXTS_A_REQUEST),
    'batches of captions embedded',
    terminal,
    (chunk) => client.embed(chunk.map(({ text }) => ({ text }))),
  )
  const embeddings = await forAll(
    chunks(images, IMAGES_A_REQUEST),
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
    'images asked with rerank',
    terminal,
    async ([image, order]) => {
      const recalled = order.slice(0, options.candidates)
      const texts = recalled.map((caption) => captions[caption]?.text ?? '')
      const reordered = await client.rerankTexts(images[image]?.key ?? '', texts)
      return rankFor(
        image,
        reordered.map((at) => recalled[at] ?? -1),
      )
    },
  )
  return { similarity, rerank: recallFigures(ranks) }
}

/**
 * Stores the images of a data set and measures both directions, by similarity alone and with
 * rerank.
 */
export async function evaluate(
  client: Client,
  images: readonly CaptionedImage[],
  options: EvaluateOptions,
  terminal: Terminal,
): Promise<Evaluation> {
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

/** The figures as a table for people. */
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
