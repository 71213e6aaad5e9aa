/**
 * Measures what docs/scaling.md computes with, and writes bench/scaling/figures.json:
 *
 *   npm run scaling:measure -- --python PYTHON [--adds 200] [--searches 60] [--vectors 50000]
 *
 * PYTHON has the packages of training/. It takes some minutes of one core and counts core-seconds,
 * so other work on the machine does little to the outcome. Then `npm run scaling` writes the page.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { packageFolder } from '../../src/config.js'
import { openItemStore } from '../../src/item-store/open.js'
import { packagedPhotos } from '../captioned-photos.js'
import { coreSecondsOf } from '../core-time.js'
import type { Figures } from './figures.js'
import { hnswFigures } from './hnsw-figures.js'
import { Service } from '../service.js'

const { values } = parseArgs({
  options: {
    python: { type: 'string' },
    adds: { type: 'string', default: '200' },
    searches: { type: 'string', default: '60' },
    vectors: { type: 'string', default: '50000' },
  },
})
if (values.python === undefined)
  throw new Error('--python names a Python that has the packages of training/')

const bundle = join(packageFolder, 'models', 'tandem-small')
const manifest = JSON.parse(readFileSync(join(bundle, 'manifest.json'), 'utf8')) as {
  name: string
  embedding: { dim: number }
  image_tokens: { count: number; width: number }
  image_encoder: { file: string }
  rerank: { candidates: number }
}
const texts = [
  'two dogs playing in the snow',
  'a woman in a red coat waits for the bus beside a bicycle',
  'children on a beach at sunset',
  'the house on the hill',
  'a man climbs a rock face above a valley with a river',
  'street musicians in the rain',
  'a black cat asleep on a pile of newspapers near the window',
  'boats',
]
const textAt = (at: number): string => `${texts[at % texts.length]} ${at}`

/** Photos that come with packages of the tests, whose sizes are those of photos on the web. */
const photos = packagedPhotos().map(({ image }) => image)

/** `times` calls, `together` of them at a time. */
async function repeat(
  times: number,
  together: number,
  call: (at: number) => Promise<void>,
): Promise<void> {
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < times) await call(next++)
  }
  await Promise.all(Array.from({ length: together }, worker))
}

async function serviceFigures(
  folder: string,
): Promise<Pick<Figures, 'add' | 'text' | 'search' | 'bytes'>> {
  const [adds, searches] = [Number(values.adds), Number(values.searches)]
  const service = await Service.start({ bundle, folder })
  try {
    const put = (at: number): Promise<void> =>
      service.put(`photo-${at}`, photos[at % photos.length] ?? new Uint8Array())
    await repeat(photos.length, 2, put)
    const add = await coreSecondsOf(service.pid, adds, () => repeat(adds, 4, put))
    const batches = 10
    const embed = (at: number): Promise<void> =>
      service.embed(Array.from({ length: 32 }, (_, row) => textAt(32 * at + row)))
    const text = Object.values(
      await coreSecondsOf(service.pid, batches * 32, () => repeat(batches, 2, embed)),
    )
    const search = (rerank: boolean): Promise<Figures['add']> =>
      coreSecondsOf(service.pid, searches, () =>
        repeat(searches, 4, (at) => service.search(textAt(at), rerank)),
      )
    const [rerank, similarity] = [await search(true), await search(false)]
    await service.stop()
    const sum = Number(text.reduce((all, one) => all + one, 0).toPrecision(3))
    return {
      add,
      text: sum,
      search: { items: adds, rerank, similarity },
      bytes: await bytesOf(join(folder, 'items')),
    }
  } finally {
    await service.stop()
  }
}

/** Of a copy, which has no free pages. */
async function bytesOf(folder: string): Promise<Figures['bytes']> {
  const store = await openItemStore({ folder, fingerprint: null })
  const copy = await mkdtemp(join(tmpdir(), 'tandem-copy-'))
  try {
    await store.copyTo(join(copy, 'items'))
    const files = readdirSync(join(copy, 'items')).map(
      (name) => statSync(join(copy, 'items', name)).size,
    )
    const images = store.list({ limit: store.size }).reduce((sum, { image }) => sum + image.size, 0)
    const { count, width } = manifest.image_tokens
    const all = files.reduce((sum, size) => sum + size, 0)
    return {
      image_tokens: count * width,
      item: Math.round((all - images) / store.size),
      image: Math.round(images / store.size),
    }
  } finally {
    await store.close()
    await rm(copy, { recursive: true })
  }
}

const folder = await mkdtemp(join(tmpdir(), 'tandem-scaling-'))
// Neither the store nor the index's process keeps the event loop alive.
const running = setInterval(() => undefined, 60_000)
try {
  const { dim } = manifest.embedding
  const counting = join(packageFolder, 'bench', 'scaling', 'graph_flops.py')
  const gflop = execFileSync(values.python, [counting, join(bundle, manifest.image_encoder.file)], {
    encoding: 'utf8',
  })
  const figures: Figures = {
    measured: {
      on: new Date().toISOString().slice(0, 10),
      processor: cpus()[0]?.model ?? 'unknown',
      cores: cpus().length,
      node: process.versions.node,
      bundle: manifest.name,
      photos: `${photos.length} JPEG photos, in turns`,
    },
    dim,
    candidates: manifest.rerank.candidates,
    ...(await serviceFigures(join(folder, 'service'))),
    hnsw: await hnswFigures({ folder: join(folder, 'index'), dim, items: Number(values.vectors) }),
    image_encoder_gflop: Number(gflop),
  }
  const file = join(packageFolder, 'bench', 'scaling', 'figures.json')
  writeFileSync(file, `${JSON.stringify(figures, null, 2)}\n`)
} finally {
  clearInterval(running)
  await rm(folder, { recursive: true, force: true })
}
