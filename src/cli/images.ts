/**
 * `tandem images`: images of a shared collection that no item names, and items whose image is gone.
 */
import type { Command } from 'commander'
import { readConfig } from '../config.js'
import { connectMilvus } from '../collection/milvus/items.js'
import { verifyBundle } from '../model/models.js'
import type { ImageStore } from '../image-store/image-store.js'
import { openSharedPlace } from '../collection/milvus/open.js'
import { printLine, type Terminal } from './terminal.js'

const HOUR_MS = 3_600_000
/** How long to wait for an engine that is away. */
const START_MS = 10_000
/** Ids and keys that a line of the report names. */
const NAMED = 5

/** What the comparison asks of a collection. */
export interface Named {
  /** Every item with the key of its image. */
  imageKeys(): AsyncIterable<{ id: string; key: string }>
  /** The bytes, and nothing where there is no such item, or it has no image. */
  image(id: string): Promise<Uint8Array | undefined>
  getMany(ids: readonly string[]): Promise<readonly unknown[]>
}

export interface ImagesOutcome {
  images: number
  items: number
  /** Keys of images that no item names, of those that are old enough. */
  orphans: string[]
  /** Ids of items whose image is not there. */
  missing: string[]
}

/**
 * Compares images with items, while services add and remove both. It keeps the keys of all images
 * in memory, some 300 bytes each.
 *
 * @param olderThanMs - younger images may be of an item that is being added: they are passed over
 */
export async function compareImages(
  images: Pick<ImageStore, 'list'>,
  items: Named,
  olderThanMs: number,
): Promise<ImagesOutcome> {
  const [listed, orphans, doubtful] = [new Set<string>(), new Set<string>(), [] as string[]]
  // Images first: those that are put from now on are in no list.
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
    // Added since the list was made, or replaced, or removed.
    if ((await items.image(id)) !== undefined) continue
    if ((await items.getMany([id]))[0] !== undefined) missing.push(id)
  }
  return { images: listed.size, items: count, orphans: [...orphans], missing }
}

/** The report, a line each. */
export function imagesLines(
  { images, items, orphans, missing }: ImagesOutcome,
  isRemoved: boolean,
): string[] {
  return [
    `${images} images of ${items} items`,
    `images that no item names: ${orphans.length}${namesOf(orphans)}${isRemoved && orphans.length > 0 ? ', removed' : ''}`,
    `items without their image: ${missing.length}${namesOf(missing)}`,
  ]
}

function namesOf(names: readonly string[]): string {
  if (names.length === 0) return ''
  return ` (${names.slice(0, NAMED).join(', ')}${names.length > NAMED ? ', …' : ''})`
}

export function addImagesCommand(
  program: Command,
  terminal: Terminal,
  wholeNumber: (raw: string) => number,
): void {
  program
    .command('images')
    .description(
      'compare IMAGE_STORE with the items in Milvus, while services serve; ends with 1 where an item lacks its image',
    )
    .option(
      '--older-than <hours>',
      'pass over younger images, which may be of items being added',
      wholeNumber,
      24,
    )
    .option('--remove', 'remove the images that no item names')
    .action(async (options: { olderThan: number; remove?: boolean }) => {
      const config = readConfig(process.env)
      if (config.vectorIndex !== 'milvus') {
        throw new Error(
          'The collection is embedded, with its images in it; expected VECTOR_INDEX=milvus.',
        )
      }
      const { fingerprint, manifest } = await verifyBundle(config.modelFolder)
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
