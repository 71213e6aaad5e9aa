/** Photos with captions: the development split of Flickr8k, or a few in packages. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readShards, type CaptionedImage } from '../src/cli/captions/dataset.js'
import { packageFolder } from '../src/config.js'
import { BenchSkipped } from './bench.js'

const shared = join(packageFolder, '..', 'shared', 'data')
const packages = join(packageFolder, 'node_modules', '@stdlib')
const ofPackage = /^datasets-img-(.*)$/

/**
 * The first `most` photos of the development split.
 * @throws BenchSkipped if the split is missing
 */
export async function developmentPhotos(most: number): Promise<CaptionedImage[]> {
  const names = existsSync(shared)
    ? readdirSync(shared).filter((name) => /^flickr8k-dev-.*\.tar$/.test(name))
    : []
  if (names.length === 0) throw new BenchSkipped(`there is no flickr8k-dev-*.tar in ${shared}`)
  const photos = await readShards(
    names.sort().map((name) => join(shared, name)),
    'en',
  )
  return photos.slice(0, most)
}

/** Photos in packages of the tests; their names are the captions. */
export function packagedPhotos(): CaptionedImage[] {
  return readdirSync(packages).flatMap((name) => {
    const key = ofPackage.exec(name)?.[1]
    if (key === undefined) return []
    const image = readFileSync(join(packages, name, 'data', 'image.jpg'))
    return [{ key, image, mime: 'image/jpeg', captions: [key.replaceAll('-', ' ')] }]
  })
}
