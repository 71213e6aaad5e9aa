/**
 * Cost and gain of reranking: against the encoders, by number of candidates, and within the margin.
 */
import { join } from 'node:path'
import type { RecallFigures } from '../src/cli/recall.js'
import { packageFolder } from '../src/config.js'
import { openModels } from '../src/model/open.js'
import { openBundle } from '../src/model/bundle/open.js'
import type { Models } from '../src/model/models.js'
import type { Bench, Scale } from './bench.js'
import { developmentPhotos, packagedPhotos } from './captioned-photos.js'
import { costsOf, type Costs } from './rerank/costs.js'
import { encodePhotos } from './rerank/encoded-photos.js'
import { recallReport, type RecallReport } from './rerank/recall.js'

export interface RerankFigures {
  bundle: string
  margin: number | null
  costs: Costs
  recall: RecallReport
  /** From the manifest: measured by training on the whole split. */
  trained: Record<string, RecallFigures> | null
}

const SIZES: Record<Scale, { photos: number; captions: number; rounds: number; depths: number[] }> =
  {
    smoke: { photos: 9, captions: 3, rounds: 2, depths: [2, 4] },
    quick: { photos: 300, captions: 60, rounds: 5, depths: [16, 64, 256] },
    full: { photos: 1000, captions: 1000, rounds: 21, depths: [16, 64, 256] },
  }
const FLICKR8K = 'flickr8k-dev'

async function figuresOf(scale: Scale): Promise<RerankFigures> {
  const size = SIZES[scale]
  const smoke = scale === 'smoke'
  const folder = smoke
    ? join(packageFolder, 'test', 'fixtures', 'tiny-bundle')
    : join(packageFolder, 'models', 'tandem-small')
  const photos = smoke ? packagedPhotos() : await developmentPhotos(size.photos)
  const { manifest } = await openBundle(folder)
  const models: Models = await openModels({
    folder,
    inferenceThreads: 0,
    maxImagePixels: 50_000_000,
  })
  try {
    const encoded = await encodePhotos(models, photos)
    const costs = await costsOf(models, photos, encoded, size)
    const recall = await recallReport(models, encoded, size.captions, size.depths)
    const measured = manifest.metrics[FLICKR8K] as
      { bundle: { text_to_image: Record<string, RecallFigures> } } | undefined
    const trained = measured?.bundle.text_to_image ?? null
    return { bundle: manifest.name, margin: manifest.rerank.margin ?? null, costs, recall, trained }
  } finally {
    await models.close()
  }
}

export const rerankBench: Bench<RerankFigures> = {
  name: 'rerank',
  title: 'Rerank',
  run: figuresOf,
  page: ({ bundle, margin, costs, recall, trained }) => {
    const { candidates, image, images, text, depths, contenders, blocked, rounds } = costs
    const whole = depths.find((depth) => depth.candidates === candidates) ?? depths.at(-1)
    const rerank = whole?.inference ?? 0
    const limit =
      margin === null
        ? 'The bundle knows no margin: all candidates are reranked.'
        : `The bundle's margin is ${margin} of similarity.`
    return [
      `Reranking ${candidates} candidates of \`${bundle}\` with their stored image tokens costs as much as ${ratio(rerank, image)} runs of the image encoder ` +
        `on one photo, and ${ratio(images + rerank, rerank)} times less than with the image encoder run again on each. Medians of ${rounds} rounds, in milliseconds, summed over the batches, which run side by side where there are cores:`,
      table(
        ['what', 'of the graphs', 'in encodes of one photo', 'until it is done'],
        [
          ['image encoder, one photo', ms(image), '1.0', ''],
          [`image encoder, ${candidates} photos in batches`, ms(images), ratio(images, image), ''],
          ['text encoder, one caption', ms(text), ratio(text, image), ''],
          ...depths.map((one) => [
            `rerank of ${one.candidates}`,
            ms(one.inference),
            ratio(one.inference, image),
            ms(one.rerank),
          ]),
          [
            `rerank within the margin, of ${candidates} (${contenders.mean.toFixed(1)} on average)`,
            '',
            '',
            ms(contenders.rerank),
          ],
        ],
      ),
      `The event loop of the process that reranks stood still for ${ms(blocked)} ms at most while it reranked.`,
      `${limit} What it does to ten hits, over ${recall.captions} captions and ${recall.photos} photos of Flickr8k's development split, the first caption of each photo:`,
      table(
        [
          'candidates',
          'reranked',
          'R@1 of all',
          'R@1 within the margin',
          'R@5',
          'R@10',
          'hits unchanged',
        ],
        [
          [
            'similarity alone',
            '0',
            percent(recall.similarity.r1),
            '',
            both(recall.similarity, undefined, 'r5'),
            both(recall.similarity, undefined, 'r10'),
            '',
          ],
          ...recall.depths.map(
            ({ candidates: depth, reranked, all, contenders: some, unchanged }) => {
              const row = [String(depth), reranked.toFixed(1), percent(all.r1), percent(some.r1)]
              return [
                ...row,
                both(all, some, 'r5'),
                both(all, some, 'r10'),
                `${unchanged.toFixed(1)} %`,
              ]
            },
          ),
        ],
      ),
      ...(trained === null
        ? []
        : [
            'On all captions of the split, as training measured it with every candidate reranked:',
            table(
              ['ranking', 'R@1', 'R@5', 'R@10'],
              Object.entries(trained).map(([ranking, { r1, r5, r10 }]) =>
                [ranking, r1, r5, r10].map(String),
              ),
            ),
          ]),
    ].join('\n\n')
  },
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => '---'), ...rows]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n')
}

function ms(value: number): string {
  return value.toFixed(value < 10 ? 1 : 0)
}

function ratio(value: number, base: number): string {
  return (value / base).toFixed(1)
}

function percent(value: number): string {
  return value.toFixed(1)
}

/** Recall with all candidates, and with those within the margin if the bundle has one. */
function both(
  all: RecallFigures,
  some: RecallFigures | undefined,
  at: keyof RecallFigures,
): string {
  return some === undefined ? percent(all[at]) : `${percent(all[at])} / ${percent(some[at])}`
}
