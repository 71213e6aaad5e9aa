/** `tandem images`: finds images without an item in a shared collection, and vice versa. */
import type { Command } from 'commander'
import { readConfig } from '../config.js'
import { connectMilvus } from '../collection/milvus/items.js'
import { openBundle } from '../model/bundle/open.js'
import type { ImageStore } from '../image-store/image-store.js'
import { openSharedPlace } from '../collection/milvus/open.js'
import { wholeNumber } from './options.js'
import { firstNames, printLine, type Terminal } from './terminal/terminal.js'

const HOUR_MS = 3_600_000
/** Limit for connecting to Milvus. */
const START_MS = 10_000
const MAX_AGE_HOURS = 8760

/** The part of a collection that the comparison reads. */
export interface ItemImages {
  imageKeys(): AsyncIterable<{ id: string; key: string }>
  /** The bytes; undefined without such an item or its image. */
  image(id: string): Promise<Uint8Array | undefined>
  getMany(ids: readonly string[]): Promise<readonly unknown[]>
}

export interface ImagesOutcome {
  images: number
  items: number
  /** Keys of images without an item, except young ones. */
  orphans: string[]
  /** Ids of items without their image. */
  missing: string[]
}

/**
 * Compares images with items, while services add and remove both. Needs about 300 bytes of memory
 * for each image.
 *
 * @param olderThanMs - younger images are ignored: their item may be in the process of being added
 */
export async function compareImages(
  images: Pick<ImageStore, 'list'>,
  items: ItemImages,
  olderThanMs: number,
): Promise<ImagesOutcome> {
  const [listed, orphans, doubtful] = [new Set<string>(), new Set<string>(), [] as string[]]
  // Images first, so that every item of a listed image can be seen.
  const before = Date.now() - olderThanMs
  for await (const { key, storedAt } of images.list()) {
    listed.add(key)
    if (storedAt.getTime() < before) orphans.add(key)
  }
  let count = 0
  for await (const { id, key } of items.imageKeys()) {
    count += 1
    orphans.delete(key)
    if (!listed.has(key)) doubtful.push(id)
  }
  const missing: string[] = []
  for (const id of doubtful) {
    // Not missing if added, replaced or removed since the list was made.
    if ((await items.image(id)) !== undefined) continue
    if ((await items.getMany([id]))[0] !== undefined) missing.push(id)
  }
  return { images: listed.size, items: count, orphans: [...orphans], missing }
}

/** @param isRemoved - whether the images without an item were removed */
export function imagesLines(
  { images, items, orphans, missing }: ImagesOutcome,
  isRemoved: boolean,
): string[] {
  return [
    `${images} images of ${items} items`,
    `images without an item: ${orphans.length}${firstNames(orphans)}${isRemoved && orphans.length > 0 ? ', removed' : ''}`,
    `items without their image: ${missing.length}${firstNames(missing)}`,
  ]
}

export function addImagesCommand(program: Command, terminal: Terminal): void {
  program
    .command('images')
    .description(
      'compare IMAGE_STORE with the items in Milvus, while services run; exits with 1 if an item lacks its image',
    )
    .option(
      '--older-than <hours>',
      'ignore younger images, whose items may be in the process of being added',
      wholeNumber(1, MAX_AGE_HOURS),
      24,
    )
    .option('--remove', 'remove the images without an item')
    .action(async (options: { olderThan: number; remove?: boolean }) => {
      const config = readConfig(process.env)
      if (config.vectorIndex !== 'milvus') {
        throw new Error(
          'An embedded collection stores its images itself; expected VECTOR_INDEX=milvus.',
        )
      }
      const { fingerprint, manifest } = await openBundle(config.modelFolder)
      const report = (sentence: string): void => printLine(terminal.err, sentence)
      const { milvus, images } = await openSharedPlace(
        config,
        { fingerprint, dim: manifest.embedding.dim },
        report,
      )
      const items = connectMilvus(milvus)
      try {
        await items.start(START_MS)
        const outcome = await compareImages(images, items, options.olderThan * HOUR_MS)
        if (options.remove === true) for (const key of outcome.orphans) await images.remove(key)
        for (const line of imagesLines(outcome, options.remove === true))
          printLine(terminal.out, line)
        if (outcome.missing.length > 0) process.exitCode = 1
      } finally {
        await items.close()
        images.close()
      }
    })
}
