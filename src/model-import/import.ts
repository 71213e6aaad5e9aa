/** Makes a bundle of a folder of somebody else's layout. */
import { chmod, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { flush } from '../files/flush.js'
import { sha256OfFile } from '../files/sha256.js'
import { storageFailure } from '../files/storage-failure.js'
import { BundleError, type FileEntry, type Manifest } from '../model/bundle/bundle.js'
import { openBundle } from '../model/bundle/open.js'
import { encodePng, preprocess } from '../model/image/preprocess.js'
import { cardOf } from './card.js'
import type { ForeignModel, ReadOptions, TokenizerFile } from './foreign.js'
import { GOLDEN_TEXTS, goldenImages } from './golden-inputs.js'
import { GraphRunner } from './graph-runner.js'
import { convertImages, readImageTower } from './image-tower.js'
import { readForeign } from './layouts.js'
import { allowsCommerce } from './license.js'
import { convertTexts, readTextTower } from './text-tower.js'
import { completeTokenizer, tokenizerOf } from './tokenizer-file.js'
import type { Converted } from './tower.js'

export interface ImportOptions extends ReadOptions {
  /** Folder of bundles in which the new one is made. */
  into: string
  /** Name of the bundle; by default that of the folder. */
  name?: string | undefined
  /** Gets a sentence at each step. */
  progress?: (sentence: string) => void
}

export interface Imported {
  folder: string
  manifest: Manifest
  layout: string
  bytes: number
  /** Least cosine between the original graphs and those of the bundle. */
  cosine: number
  /** Of one input alone on this machine. */
  milliseconds: { text: number; image: number }
  notes: string[]
}

const FILES = {
  image: 'image-encoder.onnx',
  text: 'text-encoder.onnx',
  tokenizer: 'tokenizer.json',
  goldens: 'goldens.json',
  goldensImage: 'goldens-image.png',
  card: 'README.md',
}
const TEMPORARY = '.new-'
/** mkdtemp makes folders that only their owner reads; the service may be another user. */
const FOLDER_MODE = 0o755
const MAX_PIXELS = 1e6
/** The default of the trainer's bundles. */
const CANDIDATES = 64
/** Where the scale of the logits is not known: the limit to which CLIP's training clips it. */
const USUAL_SCALE = 100
/**
 * Similarity from which pairs match where nothing tells it: that by which the pairs of LAION-5B
 * were chosen (Schuhmann et al. 2022, arXiv:2210.08402), and less for SigLIP, whose matching pairs
 * are less similar.
 */
const THRESHOLD = { softmax: 0.28, sigmoid: 0.1 }
/** Decimals of the numbers of goldens and of the match rule. */
const DECIMALS = 6
/** Between the vocabulary of CLIP, 49,408 pieces, and those of XLM-R and Gemma. */
const MULTILINGUAL_PIECES = 200_000
const TOLERANCES = { embedding_cosine: 0.999, logit: 0.1 }

/**
 * Imports a folder. A failure leaves nothing behind.
 * @throws BundleError when the folder has no known layout, lacks a part, or its graphs cannot be
 *   brought behind the contract of a bundle; TandemError `storage_full`, `storage_read_only`
 */
export async function importModel(source: string, options: ImportOptions): Promise<Imported> {
  const { into, progress = () => undefined } = options
  const foreign = await readForeign(source, options)
  progress(`Layout: ${foreign.layout}.`)
  const name = options.name ?? bundleName(options.source ?? source)
  const folder = join(into, name)
  await mkdir(into, { recursive: true })
  if ((await readdir(into)).includes(name))
    throw new BundleError(`${folder} exists. Remove it, or choose another name with --name.`)
  const temporary = await mkdtemp(join(into, TEMPORARY))
  const remove = (): Promise<void> => rm(temporary, { recursive: true, force: true })
  try {
    const imported = await write(foreign, source, temporary, { name, progress })
    await openBundle(temporary)
    await chmod(temporary, FOLDER_MODE)
    await flush(temporary)
    await rename(temporary, folder)
    await flush(into)
    return { ...imported, folder }
  } catch (error) {
    await remove()
    throw await storageFailure(error, into, `the bundles in ${into}`)
  }
}

async function write(
  foreign: ForeignModel,
  source: string,
  folder: string,
  { name, progress }: { name: string; progress: (sentence: string) => void },
): Promise<Omit<Imported, 'folder'>> {
  const path = (file: string): string => join(folder, file)
  const tokenizer = completeTokenizer(foreign.text.tokenizer, {
    ...foreign.text,
    notes: foreign.notes,
  })
  await writeFile(path(FILES.tokenizer), JSON.stringify(tokenizer))
  const { length } = foreign.text
  const pieces = tokenizerOf(tokenizer, length)
  const tokenIds = GOLDEN_TEXTS.map((text) => pieces.encode(text))
  const rasters = goldenImages()
  const files = await Promise.all(rasters.map(encodePng))
  const pixels: Uint8Array[] = []
  for (const file of files)
    pixels.push((await preprocess(file, foreign.image.pixels, MAX_PIXELS, false)).pixels)

  const { text, image, padded } = await convertGraphs(foreign, source, {
    inputs: { tokenIds, pixels },
    path,
    manifest: (dim) => manifestOf(foreign, name, dim),
    progress,
  })
  if (padded !== null)
    foreign.notes.push(
      `Each text is padded to ${padded} tokens with the id ${foreign.text.padding}, because the model reads the padding.`,
    )
  if (text.dim !== image.dim)
    throw new BundleError(
      `The embedding of a text has ${text.dim} numbers and that of an image ${image.dim}; expected the same.`,
    )
  if (text.rowByRow || image.rowByRow)
    foreign.notes.push(
      'A graph runs one input at a time, because it takes no batches or a batch changes its embeddings.',
    )
  const notes = [...foreign.notes, ...unknowns(foreign)]
  progress('95 %: writes goldens, card and manifest.')
  const [golden = Buffer.alloc(0)] = files
  await writeFile(path(FILES.goldensImage), golden)
  await writeFile(path(FILES.goldens), JSON.stringify(goldensOf(tokenIds, text, image)))
  const complete = manifestOf(foreign, name, text.dim)
  await writeFile(path(FILES.card), cardOf(foreign, complete, notes))
  complete.files = await entriesOf(folder)
  await writeFile(path('manifest.json'), `${JSON.stringify(complete, null, 1)}\n`)
  for (const { path: file } of complete.files) await flush(path(file))
  return {
    manifest: complete,
    layout: foreign.layout,
    bytes: complete.files.reduce((sum, { bytes }) => sum + bytes, 0),
    cosine: Math.min(text.cosine, image.cosine),
    milliseconds: { text: text.milliseconds, image: image.milliseconds },
    notes,
  }
}

interface GraphOptions {
  inputs: { tokenIds: number[][]; pixels: Uint8Array[] }
  path: (file: string) => string
  manifest: (dim: number) => Manifest
  progress: (sentence: string) => void
}

async function convertGraphs(
  foreign: ForeignModel,
  source: string,
  { inputs: { tokenIds, pixels }, path, manifest, progress }: GraphOptions,
): Promise<{ text: Converted; image: Converted; padded: number | null }> {
  const towers = {
    text: await readTextTower(foreign, source),
    image: await readImageTower(foreign, source),
  }
  const runner = await GraphRunner.start()
  try {
    progress(`5 %: runs ${foreign.text.graph} on ${tokenIds.length} texts.`)
    const texts = {
      ...{ tokenIds, into: path(FILES.text), runner },
      onConvert: () => progress(`25 %: makes the text encoder of it, and compares both.`),
    }
    const { padded, ...text } = await convertTexts(foreign, towers.text, texts, manifest)
    progress(`50 %: runs ${foreign.image.graph} on ${pixels.length} images.`)
    const images = {
      ...{ pixels, into: path(FILES.image), runner },
      onConvert: () => progress(`75 %: makes the image encoder of it, and compares both.`),
    }
    return { text, image: await convertImages(foreign, towers.image, images, manifest), padded }
  } finally {
    await runner.close()
  }
}

function manifestOf(foreign: ForeignModel, name: string, dim: number): Manifest {
  const { license, languages, precision, source, image, text } = foreign
  const commerce = allowsCommerce(license)
  return {
    schema_version: 1,
    name,
    version: '1.0.0',
    description: `Dual encoder imported from ${basename(source).slice(0, 100)}`,
    license: license ?? 'not stated by the folder: see its source',
    ...(commerce !== undefined && { commercial_use: commerce }),
    source,
    languages: [...(languages ?? [isMultilingual(text.tokenizer) ? 'mul' : 'en'])],
    embedding: { dim },
    image_encoder: { file: FILES.image, ...image.pixels, precision },
    text_encoder: {
      file: FILES.text,
      tokenizer: FILES.tokenizer,
      max_tokens: text.length,
      precision,
    },
    match: { ...matchOf(foreign), calibrated: false },
    rerank: { default: false, candidates: CANDIDATES },
    goldens: FILES.goldens,
    metrics: {},
    files: [],
  }
}

/** Whether the vocabulary is too large for one language. */
function isMultilingual({ model: { vocab = {} } }: TokenizerFile): boolean {
  const pieces = Array.isArray(vocab) ? vocab.length : Object.keys(vocab).length
  return pieces >= MULTILINGUAL_PIECES
}

function matchOf({ logits, loss }: ForeignModel): Manifest['match'] {
  const scale = logits?.scale ?? USUAL_SCALE
  const isKnown = logits !== null && loss === 'sigmoid'
  const bias = isKnown ? logits.bias : -THRESHOLD[loss] * scale
  return { logit: 0, similarity: rounded(scale), bias: rounded(bias) }
}

/** What the folder does not say. */
function unknowns({ logits, loss, license }: ForeignModel): string[] {
  const notes: string[] = []
  if (logits === null)
    notes.push(
      `The folder has no scale of the logits: \`match\` supposes ${USUAL_SCALE} and a threshold of ${THRESHOLD[loss]}.`,
    )
  notes.push(
    '`match` is not calibrated: it follows from the scale of the logits, so that it orders pairs but is no probability.',
  )
  if (license === null) notes.push('The folder states no license.')
  return notes
}

function goldensOf(tokenIds: readonly number[][], text: Converted, image: Converted): object {
  const numbers = (row: Float64Array = new Float64Array()): number[] => [...row].map(rounded)
  return {
    texts: GOLDEN_TEXTS.map((sentence, i) => ({
      text: sentence,
      token_ids: tokenIds[i],
      embedding: numbers(text.embeddings[i]),
    })),
    image: {
      file: FILES.goldensImage,
      embedding: numbers(image.embeddings[0]),
      image_tokens_head: [],
    },
    matches: [],
    tolerances: TOLERANCES,
  }
}

function rounded(value: number): number {
  return Number(value.toFixed(DECIMALS))
}

async function entriesOf(folder: string): Promise<FileEntry[]> {
  const names = (await readdir(folder)).sort()
  return Promise.all(
    names.map(async (path) => ({ path, ...(await sha256OfFile(join(folder, path))) })),
  )
}

/** The last part of a path or id, in the letters of a bundle's name. */
export function bundleName(source: string): string {
  const name = basename(source)
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 64)
  if (name === '')
    throw new BundleError(`"${source}" gives no name of a bundle; choose one with --name.`)
  return name
}
