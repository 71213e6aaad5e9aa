/**
 * Images with captions from WebDataset shards: tar files with `<key>.jpg` and `<key>.json` for each
 * image. The JSON is `{"captions": {"en": ["…"]}}`. As WebDataset has it, the key is the path up to
 * the first dot of the file's name. The reader of the trainer follows the same rules
 * (`training/tandem_training/data/samples.py`).
 */
import { createReadStream } from 'node:fs'
import { open, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough, pipeline } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { createGunzip } from 'node:zlib'
import { extract, type Header } from 'tar-stream'
import { mimeOf } from '../indexing/image-files.js'

export interface CaptionedImage {
  key: string
  image: Uint8Array
  mime: string
  captions: string[]
}

interface Sample {
  /** By kind, the names of the files. */
  names: { image?: string; json?: string }
  image?: Uint8Array
  mime?: string
  captions?: string[]
}

const NAME = /^((?:.*\/)?[^/.]+)\.([^/]+)$/s
const BLOCK_BYTES = 512

/** @param path - a tar file, or a folder of them */
export async function shardsOf(path: string): Promise<string[]> {
  if (!(await stat(path)).isDirectory()) return [path]
  const names = (await readdir(path)).filter((name) => name.endsWith('.tar')).sort()
  if (names.length === 0) throw new Error(`${path} has no .tar shards.`)
  return names.map((name) => join(path, name))
}

function parse(json: string, where: string): { captions?: Record<string, unknown> } {
  try {
    return JSON.parse(json) as { captions?: Record<string, unknown> }
  } catch (error) {
    throw new Error(`${where}: ${(error as Error).message}`, { cause: error })
  }
}

function captionsOf(json: string, language: string, where: string): string[] {
  const captions = parse(json, where).captions?.[language]
  if (captions === undefined) return []
  if (Array.isArray(captions) && captions.every((caption) => typeof caption === 'string'))
    return captions
  throw new Error(`${where}: captions.${language} must be a list of strings.`)
}

/**
 * The first `limit` images of a dataset with captions in `language`.
 *
 * @throws Error as `readShards`, and if there is no such image
 */
export async function readCaptionedImages(
  dataset: string,
  language: string,
  limit: number,
): Promise<CaptionedImage[]> {
  const images = (await readShards(await shardsOf(dataset), language)).slice(0, limit)
  if (images.length > 0) return images
  throw new Error(`${dataset} has no image with captions in "${language}".`)
}

/**
 * Reads every image that has captions in `language`. Equal keys in two shards are two images.
 *
 * @throws Error with shard and key for an image without JSON, a JSON without image, a key that
 *   occurs twice and invalid JSON, and with shard and offset for a damaged tar header
 */
export async function readShards(
  shards: readonly string[],
  language: string,
): Promise<CaptionedImage[]> {
  const images: CaptionedImage[] = []
  for (const shard of shards) {
    for (const [key, { image, mime, captions }] of await readSamples(shard, language)) {
      if (captions === undefined)
        throw new Error(`${shard}: "${key}" has an image but no ${key}.json.`)
      if (image === undefined || mime === undefined)
        throw new Error(`${shard}: "${key}" has captions but no image.`)
      if (captions.length > 0) images.push({ key, image, mime, captions })
    }
  }
  return images
}

async function readSamples(shard: string, language: string): Promise<Map<string, Sample>> {
  const samples = new Map<string, Sample>()
  for await (const { name, bytes } of tarFiles(shard)) {
    const [, key, rest] = NAME.exec(name) ?? []
    if (key === undefined || rest === undefined) continue
    const mime = mimeOf(name)
    const kind = mime === undefined ? 'json' : 'image'
    if (kind === 'json' && !/(?:^|\.)json$/i.test(rest)) continue
    const sample = samples.get(key) ?? { names: {} }
    samples.set(key, sample)
    const first = sample.names[kind]
    if (first !== undefined)
      throw new Error(
        `${shard}: the key "${key}" occurs twice, as ${first} and ${name}. A key ends at the first dot of the file's name and has one image and one .json.`,
      )
    sample.names[kind] = name
    if (mime !== undefined) Object.assign(sample, { image: bytes, mime })
    else sample.captions = captionsOf(bytes.toString('utf8'), language, `${shard}: ${name}`)
  }
  return samples
}

/**
 * The files of a tar file, which may be compressed with gzip.
 *
 * @throws Error with the offset of a damaged header, or of a missing end mark, a block of zeros
 */
async function* tarFiles(shard: string): AsyncGenerator<{ name: string; bytes: Buffer }> {
  let total = 0
  let end = 0
  const counter = new PassThrough().on('data', (chunk: Buffer) => (total += chunk.length))
  const source = createReadStream(shard)
  const tar = extract()
  const forwarded = (): void => undefined // the iterator of `tar` throws the error
  if (await isGzip(shard)) pipeline(source, createGunzip(), counter, tar, forwarded)
  else pipeline(source, counter, tar, forwarded)
  try {
    for await (const entry of tar) {
      const { name, type, size = 0 } = entry.header
      const { byteOffset } = entry.header as Header & { byteOffset: number }
      const bytes = await buffer(entry)
      end = byteOffset + Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES
      if (type === 'file') yield { name, bytes }
    }
  } catch (cause) {
    if (cause instanceof Error && 'syscall' in cause) throw cause
    throw new Error(
      `${shard}: damaged or cut off in what begins at byte ${end}: ${(cause as Error).message}`,
      { cause },
    )
  }
  if (total < end + BLOCK_BYTES)
    throw new Error(
      `${shard}: cut off at byte ${end}, where the end mark of a tar file is missing.`,
    )
}

async function isGzip(path: string): Promise<boolean> {
  const file = await open(path)
  try {
    const { buffer: start } = await file.read(Buffer.alloc(2), 0, 2, 0)
    return start.readUInt16BE(0) === 0x1f8b
  } finally {
    await file.close()
  }
}
