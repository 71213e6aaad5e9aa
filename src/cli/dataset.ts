/**
 * Images with captions from WebDataset shards: tar files with `<key>.jpg` and `<key>.json` for each
 * image. The JSON is `{"captions": {"en": ["…"]}}`.
 */
import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { extract } from 'tar-stream'
import { mimeOf } from './image-files.js'

export interface CaptionedImage {
  key: string
  image: Uint8Array
  mime: string
  captions: string[]
}

interface Sample {
  image?: Uint8Array
  mime?: string
  captions?: string[]
}

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
 * Reads every image that has captions in `language`.
 *
 * @throws Error with shard and entry for an image without JSON, a JSON without image, and invalid
 *   JSON
 */
export async function readShards(
  shards: readonly string[],
  language: string,
): Promise<CaptionedImage[]> {
  const samples = new Map<string, Sample>()
  for (const shard of shards) {
    for await (const entry of createReadStream(shard).pipe(extract())) {
      const { name, type } = entry.header
      const bytes = await buffer(entry)
      if (type !== 'file') continue
      const [, key, extension] = /^((?:.*\/)?[^/.]+)\.([^/]+)$/.exec(name) ?? []
      if (key === undefined || extension === undefined) continue
      const sample = samples.get(key) ?? {}
      samples.set(key, sample)
      const mime = mimeOf(name)
      if (mime !== undefined) Object.assign(sample, { image: bytes, mime })
      else if (extension === 'json')
        sample.captions = captionsOf(bytes.toString('utf8'), language, `${shard}: ${name}`)
    }
  }
  return [...samples].flatMap(([key, { image, mime, captions }]) => {
    if (captions === undefined)
      throw new Error(`"${key}" has an image but no ${key}.json in its shard.`)
    if (image === undefined || mime === undefined)
      throw new Error(`"${key}" has captions but no image in its shard.`)
    return captions.length === 0 ? [] : [{ key, image, mime, captions }]
  })
}
