/** The requests to Tandem and the peers, with the same texts and bytes. */
import sharp from 'sharp'
import { packagedPhotos } from '../captioned-photos.js'
import type { Asked } from '../load.js'

export interface Workload {
  name: 'text' | 'image' | 'search'
  title: string
  /** Request `at` of an endless row. */
  tandem: (at: number) => Asked
  peer: (at: number) => Asked
}

/** Longest side of a photo as a web page shows it. */
const SIDE = 500
const LEAST_SIDE = 288
const JPEG_QUALITY = 85
const BOUNDARY = 'photo-of-the-benchmark'

/**
 * JPEG photos of 500 pixels, from packages of the tests: those that an image encoder of 288 pixels
 * need not enlarge, which libraries do differently.
 */
export async function photos(): Promise<Buffer[]> {
  const shrunk = await Promise.all(
    packagedPhotos().map(({ image }) =>
      sharp(image)
        .resize(SIDE, SIDE, { fit: 'inside' })
        .jpeg({ quality: JPEG_QUALITY })
        .toBuffer({ resolveWithObject: true }),
    ),
  )
  return shrunk
    .filter(({ info }) => Math.min(info.width, info.height) >= LEAST_SIDE)
    .map(({ data }) => data)
}

/** @param captions - of photos, one for each request in turns */
export function workloads(
  captions: readonly string[],
  images: readonly Buffer[],
): Record<Workload['name'], Workload> {
  const text = (at: number): Asked => {
    const body = Buffer.from(JSON.stringify({ inputs: [{ text: turn(captions, at) }] }))
    return { method: 'POST', path: '/embed', headers: { 'content-type': 'application/json' }, body }
  }
  const forms = images.map(form)
  const image =
    (path: string) =>
    (at: number): Asked => {
      const headers = { 'content-type': `multipart/form-data; boundary=${BOUNDARY}` }
      return { method: 'POST', path, headers, body: turn(forms, at) }
    }
  const search =
    (options: string) =>
    (at: number): Asked => {
      return {
        method: 'GET',
        path: `/search?q=${encodeURIComponent(turn(captions, at))}&k=10${options}`,
        headers: {},
      }
    }
  return {
    text: { name: 'text', title: 'POST /embed of one text', tandem: text, peer: text },
    image: {
      name: 'image',
      title: 'POST /embed of one photo',
      tandem: image('/embed'),
      peer: image('/embed-image'),
    },
    search: {
      name: 'search',
      title: 'GET /search by a text',
      tandem: search('&rerank=false'),
      peer: search(''),
    },
  }
}

function turn<Value>(values: readonly Value[], at: number): Value {
  return values[at % values.length] as Value
}

function form(image: Buffer): Buffer {
  const head = `--${BOUNDARY}\r\ncontent-disposition: form-data; name="image"; filename="photo.jpg"\r\ncontent-type: image/jpeg\r\n\r\n`
  return Buffer.concat([Buffer.from(head), image, Buffer.from(`\r\n--${BOUNDARY}--\r\n`)])
}
