/** Inputs of the comparison: captions, and queries and items with their embeddings. */
import { join } from 'node:path'
import { readShards } from '../../src/cli/captions/dataset.js'
import { openModels } from '../../src/model/open.js'
import { packageFolder } from '../../src/config.js'
import { randomNumbers } from '../../test/support/random-embeddings.js'
import { BenchSkipped } from '../bench.js'
import { extended, hasPhotos, realEmbeddings, type Vectors } from '../vectors.js'

export interface Given {
  captions: string[]
  /** Texts with the embeddings that the bundle makes of them. */
  queries: { texts: string[]; embeddings: Vectors }
  items: Vectors
  /** Whether the bundle is trained. */
  areReal: boolean
}

const DEV = join(packageFolder, '..', 'shared', 'data', 'flickr8k-dev-0000.tar')
const WORDS = ['a', 'black', 'dog', 'runs', 'along', 'the', 'beach', 'near', 'two', 'children']

/** Captions and photos of Flickr8k, the photos extended by noise. @throws BenchSkipped */
export async function captionedQueries({
  items,
  queries,
}: {
  items: number
  queries: number
}): Promise<Given> {
  if (!hasPhotos()) throw new BenchSkipped(`the photos of ${DEV} and beside it are not there`)
  const photos = await readShards([DEV], 'en')
  const real = await realEmbeddings()
  const { dim } = real.captions
  return {
    captions: photos.flatMap(({ captions }) => captions),
    queries: {
      texts: photos.slice(0, queries).map(({ captions }) => captions[0] ?? ''),
      embeddings: { dim, count: queries, packed: real.captions.packed.subarray(0, queries * dim) },
    },
    items: extended(real.photos, 0, items),
    areReal: true,
  }
}

/** For an untrained bundle: sentences of a few words, and random items. */
export async function randomQueries({
  bundle,
  items,
  queries,
}: {
  bundle: string
  items: number
  queries: number
}): Promise<Given> {
  const next = randomNumbers(1)
  const texts = Array.from({ length: queries }, () =>
    Array.from({ length: 6 }, () => WORDS[Math.floor(next() * WORDS.length)]).join(' '),
  )
  const models = await openModels({ folder: bundle, inferenceThreads: 1, maxImagePixels: 1e7 })
  try {
    const { encoded } = await models.encodeTexts(texts)
    const { dim } = models.info
    const packed = new Float32Array(queries * dim)
    encoded.forEach(({ embedding }, at) => packed.set(embedding, at * dim))
    const photos = {
      dim,
      count: 50,
      packed: Float32Array.from({ length: 50 * dim }, () => next() - 0.5),
    }
    return {
      captions: texts,
      queries: { texts, embeddings: { dim, count: queries, packed } },
      items: extended(photos, 50, items),
      areReal: false,
    }
  } finally {
    await models.close()
  }
}
