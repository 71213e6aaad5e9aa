/** Images with the texts that belong to them: from CSV, shards, or stored items. */
import { readFile, stat } from 'node:fs/promises'
import { dirname, extname, resolve } from 'node:path'
import { parse } from 'csv-parse/sync'
import type { Client } from '../client.js'
import { readCaptionedImages } from './dataset.js'

export interface NamedPairs {
  /** A path, or the id of a stored item. */
  image: string
  texts: string[]
}

const IMAGE_COLUMNS = ['image', 'image_path', 'filepath', 'file', 'path', 'id']
const TEXT_COLUMNS = ['text', 'caption', 'title', 'sentence']

/**
 * The rows of a CSV or TSV file: by the names of its columns, else the first two.
 * @throws Error naming the line that cannot be read
 */
export async function readCsvPairs(path: string): Promise<NamedPairs[]> {
  const delimiter = extname(path).toLowerCase() === '.tsv' ? '\t' : ','
  const content = await readFile(path)
  let rows: string[][]
  try {
    rows = parse(content, { bom: true, delimiter, skip_empty_lines: true, trim: true })
  } catch (error) {
    throw new Error(`${path} cannot be read: ${(error as Error).message}`, { cause: error })
  }
  const [head = []] = rows
  const names = head.map((name) => name.toLowerCase())
  const [imageColumn, textColumn] = [IMAGE_COLUMNS, TEXT_COLUMNS].map((known) =>
    names.indexOf(known.find((name) => names.includes(name)) ?? '\0'),
  ) as [number, number]
  const hasHead = imageColumn >= 0 && textColumn >= 0
  const [image, text] = hasHead ? [imageColumn, textColumn] : [0, 1]
  const texts = new Map<string, string[]>()
  for (const row of hasHead ? rows.slice(1) : rows) {
    const [name = '', sentence = ''] = [row[image], row[text]]
    if (name === '' || sentence === '') continue
    texts.set(name, [...(texts.get(name) ?? []), sentence])
  }
  if (texts.size === 0)
    throw new Error(
      `${path} has no row with an image and a text; expected the columns image and text.`,
    )
  return [...texts].map(([name, sentences]) => ({ image: name, texts: sentences }))
}

/** The files of pairs; paths are relative to the CSV file. */
export async function withFiles(
  csv: string,
  pairs: readonly NamedPairs[],
): Promise<{ image: Uint8Array; texts: string[] }[]> {
  const found = pairs.map(({ image, texts }) => ({ path: resolve(dirname(csv), image), texts }))
  const missing: string[] = []
  for (const { path } of found)
    if ((await stat(path).catch(() => null))?.isFile() !== true) missing.push(path)
  if (missing.length > 0)
    throw new Error(
      `${missing.length} of ${found.length} images of ${csv} are missing, such as ${missing[0]}. With --stored the column has ids of stored items.`,
    )
  return Promise.all(found.map(async ({ path, texts }) => ({ image: await readFile(path), texts })))
}

/** The images of shards; each caption is a text. */
export async function shardPairs(
  dataset: string,
  language: string,
  limit: number,
): Promise<{ image: Uint8Array; texts: string[] }[]> {
  const images = await readCaptionedImages(dataset, language, limit)
  return images.map(({ image, captions }) => ({ image, texts: captions }))
}

/** Stored items whose payload has a text, or a list of texts, under `field`. */
export async function payloadPairs(
  client: Pick<Client, 'items'>,
  field: string,
  limit: number,
): Promise<NamedPairs[]> {
  const pairs: NamedPairs[] = []
  for await (const { id, payload } of client.items()) {
    const texts = [payload?.[field]]
      .flat()
      .filter((text) => typeof text === 'string' && text !== '')
    if (texts.length > 0) pairs.push({ image: id, texts: texts as string[] })
    if (pairs.length === limit) return pairs
  }
  if (pairs.length === 0)
    throw new Error(`No stored item has a text under "${field}" in its payload.`)
  return pairs
}

/** The pairs with the bytes of their images, which are read one after another. */
export async function withStoredImages(
  client: Pick<Client, 'image'>,
  pairs: readonly NamedPairs[],
): Promise<{ image: Uint8Array; texts: string[] }[]> {
  const found: { image: Uint8Array; texts: string[] }[] = []
  for (const { image, texts } of pairs) found.push({ image: await client.image(image), texts })
  return found
}
