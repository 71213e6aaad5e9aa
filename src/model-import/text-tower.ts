/** The text encoder of a foreign model. */
import { BundleError, type Manifest } from '../model/bundle/bundle.js'
import { textLane } from '../model/encoders/dual-encoder.js'
import { graphSpecs, type Tensors } from '../model/onnx/graph-inputs.js'
import type { ForeignModel } from './foreign.js'
import { TYPE, type Port } from './graph.js'
import { leastCosine, type GraphRunner } from './graph-runner.js'
import {
  convert,
  integerTensor,
  openOriginal,
  originalEmbeddings,
  readTower,
  type Converted,
  type Forms,
  type Tower,
} from './tower.js'
import { wrapText } from './wrap.js'

/** Cosine from which padding counts as without effect. */
const SAME = 0.99999

export interface ConvertedTexts extends Converted {
  /** Tokens to which texts are padded in the graph; null where padding has no effect. */
  padded: number | null
}

/** @throws BundleError when the graph takes something else than ids and their mask */
export async function readTextTower({ text }: ForeignModel, folder: string): Promise<Tower> {
  const tower = await readTower(folder, text.graph, text.outputs)
  portsOf(tower, text.length)
  return tower
}

/**
 * @param tokenIds - of each golden text, cut to `length`
 * @param manifest - of a bundle whose embeddings have `dim` numbers
 * @throws BundleError when no graph of a bundle gives its embeddings
 */
export async function convertTexts(
  { text }: ForeignModel,
  tower: Tower,
  {
    tokenIds,
    into,
    runner,
    onConvert,
  }: { tokenIds: number[][]; into: string; runner: GraphRunner; onConvert: () => void },
  manifest: (dim: number) => Manifest,
): Promise<ConvertedTexts> {
  const { length, padding } = text
  const { ids, mask } = portsOf(tower, length)
  const fixed = ids.shape[1] ?? null
  const feed = (isPadded: boolean, place: number): Tensors => {
    const found = tokenIds[place] ?? []
    const rest = Array<number>(isPadded ? length - found.length : 0)
    const dims = [1, found.length + rest.length]
    return {
      [ids.name]: integerTensor(ids, [...found, ...rest.fill(padding)], dims),
      ...(mask !== null && {
        [mask.name]: integerTensor(mask, [...found.map(() => 1), ...rest.fill(0)], dims),
      }),
    }
  }
  // A graph with a mask does not see padding; one without is given it as in training.
  const isPadded = text.isPadded || mask === null || fixed !== null
  const count = tokenIds.length
  const original = (padded: boolean): Pick<Forms, 'original' | 'count'> => ({
    count,
    original: ([place = 0]) => feed(padded, place),
  })
  await openOriginal(tower, into, runner)
  const embeddings = await originalEmbeddings(tower, original(isPadded), runner)
  const unpadded =
    isPadded && fixed === null
      ? await originalEmbeddings(tower, original(false), runner).catch(() => [])
      : []
  await runner.release()
  const isFree = !isPadded || leastCosine(embeddings, unpadded) >= SAME
  const padded = isFree ? null : length
  const lane = textLane(manifest(1))
  onConvert()
  const converted = await convert(
    tower,
    {
      count,
      build: (model, dim, rowByRow) =>
        wrapText(
          model,
          { ids, mask, output: tower.output, padding, length: padded },
          dim,
          rowByRow,
        ),
      spec: (dim) => graphSpecs(manifest(dim)).text,
      original: original(isPadded).original,
      bundled: (places) => lane.assemble(places.map((place) => tokenIds[place] ?? [])),
    },
    embeddings,
    into,
    runner,
  )
  return { ...converted, padded }
}

/** @throws BundleError unless the graph takes token ids and at most their mask */
function portsOf({ inputs, file }: Tower, length: number): { ids: Port; mask: Port | null } {
  const isList = ({ type, shape }: Port): boolean =>
    (type === TYPE.int64 || type === TYPE.int32) && shape.length === 2
  const mask = inputs.find(({ name }) => /mask/i.test(name)) ?? null
  const others = inputs.filter((port) => port !== mask)
  const [ids] = others
  if (ids !== undefined && others.length === 1 && inputs.every(isList)) {
    const fixed = ids.shape[1] ?? length
    if (fixed === length) return { ids, mask }
    throw new BundleError(
      `${file} takes ${fixed} tokens; the folder says that a text has ${length}.`,
    )
  }
  const list = inputs.map(({ name, shape }) => `${name} [${shape.map((n) => n ?? '*').join(', ')}]`)
  throw new BundleError(
    `${file} has the inputs ${list.join(', ')}; expected token ids and at most their mask, int64 or int32 [*, *].`,
  )
}
