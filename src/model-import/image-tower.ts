/** The image encoder of a foreign model. */
import { BundleError, type Manifest } from '../model/bundle/bundle.js'
import { imageLane } from '../model/encoders/dual-encoder.js'
import { graphSpecs, type Tensor } from '../model/onnx/graph-inputs.js'
import type { ForeignModel, Normalisation } from './foreign.js'
import { TYPE, type Port } from './graph.js'
import type { GraphRunner } from './graph-runner.js'
import {
  convert,
  openOriginal,
  originalEmbeddings,
  readTower,
  type Converted,
  type Forms,
  type Tower,
} from './tower.js'
import { wrapImage } from './wrap.js'

/** @throws BundleError when the graph takes something else than one square of pixels */
export async function readImageTower({ image }: ForeignModel, folder: string): Promise<Tower> {
  const tower = await readTower(folder, image.graph, image.outputs)
  inputOf(tower, image.pixels.size)
  return tower
}

/**
 * @param pixels - size × size × 3 of each golden image
 * @param manifest - of a bundle whose embeddings have `dim` numbers
 * @throws BundleError when no graph of a bundle gives its embeddings
 */
export async function convertImages(
  { image }: ForeignModel,
  tower: Tower,
  {
    pixels,
    into,
    runner,
    onConvert,
  }: { pixels: readonly Uint8Array[]; into: string; runner: GraphRunner; onConvert: () => void },
  manifest: (dim: number) => Manifest,
): Promise<Converted> {
  const { size } = image.pixels
  const input = inputOf(tower, size)
  const forms: Forms = {
    count: pixels.length,
    build: (model, dim, rowByRow) =>
      wrapImage(model, { input, output: tower.output, size }, image.normalisation, dim, rowByRow),
    spec: (dim) => graphSpecs(manifest(dim)).image,
    original: ([place = 0]) => ({
      [input.name]: pixelTensor(
        input,
        pixels[place] ?? new Uint8Array(),
        size,
        image.normalisation,
      ),
    }),
    bundled: (places) =>
      imageLane(manifest(1), 1).assemble(places.map((place) => pixels[place] ?? new Uint8Array())),
  }
  await openOriginal(tower, into, runner)
  const embeddings = await originalEmbeddings(tower, forms, runner)
  await runner.release()
  onConvert()
  return convert(tower, forms, embeddings, into, runner)
}

/** @throws BundleError unless the graph takes pixels of this size alone */
function inputOf({ inputs, file }: Tower, size: number): Port {
  const [input] = inputs
  const expected = input?.type === TYPE.uint8 ? [null, size, size, 3] : [null, 3, size, size]
  const fits =
    input !== undefined &&
    inputs.length === 1 &&
    (input.type === TYPE.float || input.type === TYPE.uint8) &&
    input.shape.length === 4 &&
    input.shape.every((axis, i) => i === 0 || axis === null || axis === expected[i])
  if (fits) return input
  const list = inputs.map(({ name, shape }) => `${name} [${shape.map((n) => n ?? '*').join(', ')}]`)
  throw new BundleError(
    `${file} has the inputs ${list.join(', ')}; expected one of pixels, float32 [*, 3, ${size}, ${size}] or uint8 [*, ${size}, ${size}, 3].`,
  )
}

/** One image as the original graph takes it. */
function pixelTensor(
  { type }: Port,
  pixels: Uint8Array,
  size: number,
  { rescale, mean, deviation }: Normalisation,
): Tensor {
  if (type === TYPE.uint8) return { type: 'uint8', data: pixels, dims: [1, size, size, 3] }
  const plane = size * size
  const data = Float32Array.from({ length: 3 * plane }, (_, i) => {
    const channel = Math.floor(i / plane)
    const pixel = pixels[(i % plane) * 3 + channel] ?? 0
    return (pixel * rescale - (mean[channel] ?? 0)) / (deviation[channel] ?? 1)
  })
  return { type: 'float32', data, dims: [1, 3, size, size] }
}
