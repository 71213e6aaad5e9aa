/**
 * Runs the runtime in a loop without a server, at its full speed: one call after the other, with
 * inputs prepared before.
 */
import { join } from 'node:path'
import hnswlib from 'hnswlib-node'
import { openBundle } from '../../src/model/bundle/open.js'
import type { Bundle } from '../../src/model/bundle/bundle.js'
import { readBundleFile } from '../../src/model/bundle/bundle-file.js'
import { imageLane, textLane } from '../../src/model/encoders/dual-encoder.js'
import { graphSpecs, type GraphSpec } from '../../src/model/onnx/graph-inputs.js'
import { preprocess } from '../../src/model/image/preprocess.js'
import { Session } from '../../src/model/onnx/session.js'
import { Tokenizer } from '../../src/model/encoders/tokenizer.js'

export type BareAsk =
  | { kind: 'open'; bundle: string; threads: number }
  | { kind: 'texts'; texts: readonly string[]; rows: number; seconds: number }
  | { kind: 'photos'; images: readonly Uint8Array[]; seconds: number; isStored: boolean }
  | { kind: 'queries'; texts: readonly string[]; index: string; dim: number; ef: number; k: number }
/**
 * The number and total milliseconds of a loop, or the milliseconds of each query.
 */
export type BareAnswer =
  { done: number; milliseconds: number } | { each: number[] } | { failed: string }

/** Photos decoded while one is encoded. */
const DECODED_AHEAD = 2
const MOST_PIXELS = 1e8

interface Opened {
  bundle: Bundle
  text: Session
  image: Session
  tokenizer: Tokenizer
}
let opened: Opened

process.on('disconnect', () => process.exit())
process.on('message', (ask: BareAsk) => {
  answer(ask).then(
    (said) => process.send?.(said),
    (error: Error) => process.send?.({ failed: String(error.stack) }),
  )
})

async function answer(ask: BareAsk): Promise<BareAnswer> {
  if (ask.kind === 'texts') return loopOfTexts(ask)
  if (ask.kind === 'photos') return loopOfPhotos(ask)
  if (ask.kind === 'queries') return queries(ask)
  const bundle = await openBundle(ask.bundle)
  const { image, text } = graphSpecs(bundle.manifest)
  const open = async (spec: GraphSpec): Promise<Session> =>
    Session.open(await readBundleFile(bundle, spec.file), spec, {
      provider: 'cpu',
      device: 0,
      threads: ask.threads,
    })
  const { tokenizer, max_tokens: most } = bundle.manifest.text_encoder
  opened = {
    bundle,
    text: await open(text),
    image: await open(image),
    tokenizer: new Tokenizer(await readBundleFile(bundle, tokenizer), most),
  }
  return { done: 0, milliseconds: 0 }
}

/** Batches of texts of similar length, the best case. */
async function loopOfTexts({
  texts,
  rows,
  seconds,
}: Extract<BareAsk, { kind: 'texts' }>): Promise<BareAnswer> {
  const lane = textLane(opened.bundle.manifest)
  const sorted = texts
    .map((text) => opened.tokenizer.encode(text))
    .sort((a, b) => a.length - b.length)
  const batches = Array.from({ length: Math.floor(sorted.length / rows) }, (_, at) =>
    lane.assemble(sorted.slice(at * rows, (at + 1) * rows)),
  )
  await opened.text.run(batches.at(-1) ?? {})
  return loop(seconds, async (at) => {
    // Short and long batches alternate, so that any end of the loop is fair.
    await opened.text.run(batches[(at * 7919) % batches.length] ?? {})
    return rows
  })
}

/** Photos are decoded by the threads of libvips while others are encoded here. */
async function loopOfPhotos({
  images,
  seconds,
  isStored,
}: Extract<BareAsk, { kind: 'photos' }>): Promise<BareAnswer> {
  const { manifest } = opened.bundle
  const lane = imageLane(manifest, 1)
  let next = 0
  const decode = async (): Promise<Uint8Array> =>
    (
      await preprocess(
        images[next++ % images.length] as Uint8Array,
        manifest.image_encoder,
        MOST_PIXELS,
        isStored,
      )
    ).pixels
  const ahead = Array.from({ length: DECODED_AHEAD }, decode)
  const done = await loop(seconds, async () => {
    const pixels = await (ahead.shift() as Promise<Uint8Array>)
    ahead.push(decode())
    const inputs = [pixels]
    lane.split(await opened.image.run(lane.assemble(inputs)), inputs)
    return 1
  })
  await Promise.all(ahead)
  return done
}

async function loop(
  seconds: number,
  step: (at: number) => Promise<number>,
): Promise<{ done: number; milliseconds: number }> {
  const begun = performance.now()
  const until = begun + seconds * 1000
  let done = 0
  for (let at = 0; performance.now() < until; at += 1) done += await step(at)
  return { done, milliseconds: performance.now() - begun }
}

let graph: hnswlib.HierarchicalNSW | undefined

/** Each text encoded by itself, and the items found that are nearest. */
async function queries({
  texts,
  index,
  dim,
  ef,
  k,
}: Extract<BareAsk, { kind: 'queries' }>): Promise<BareAnswer> {
  if (graph === undefined) {
    graph = new hnswlib.HierarchicalNSW('ip', dim)
    graph.readIndexSync(join(index))
  }
  graph.setEf(ef)
  const lane = textLane(opened.bundle.manifest)
  const each: number[] = []
  for (const text of texts) {
    const begun = performance.now()
    const inputs = [opened.tokenizer.encode(text)]
    const [encoded] = lane.split(await opened.text.run(lane.assemble(inputs)), inputs)
    graph.searchKnn(Array.from(encoded?.embedding ?? []), k)
    each.push(performance.now() - begun)
  }
  return { each }
}
