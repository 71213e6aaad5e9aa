/** Recognises the layout of a folder and reads its rules: docs/models.md has the layouts. */
import { basename, dirname } from 'node:path'
import { BundleError } from '../model/bundle/bundle.js'
import { Folder, type Json } from './folder.js'
import type { Cleaning, ForeignModel, ReadOptions, TokenizerFile } from './foreign.js'
import { graphsOf, layoutOf } from './needed-files.js'
import { fromOpenClip, fromTransformers, NAMED_PREPROCESSING } from './preprocessor.js'
import { tokenId } from './tokenizer-file.js'

const IMAGE_OUTPUTS = [
  'l2norm_image_embeddings',
  'image_embeds',
  'image_embeddings',
  'image_embedding',
  'embedding',
]
const TEXT_OUTPUTS = [
  'l2norm_text_embeddings',
  'text_embeds',
  'text_embeddings',
  'text_embedding',
  'embedding',
]
/** Of SigLIP alone: CLIP projects it. */
const POOLED = 'pooler_output'
/** The vocabulary of CLIP; open_clip pads with 0. */
const CLIP_END = '<|endoftext|>'
/** Limit of the manifest. */
const MAX_TOKENS = 512
const AS_IS: Cleaning = {
  straightQuotes: false,
  lowercase: false,
  punctuation: 'kept',
  collapse: false,
}
const GEMMA_VOCABULARY = 256_000

/**
 * @throws BundleError when the folder has no layout that is known, or lacks a part of it
 */
export async function readForeign(path: string, options: ReadOptions = {}): Promise<ForeignModel> {
  const folder = new Folder(path)
  if ((await folder.names()).length === 0)
    throw new BundleError(`${path} is no folder with files of a model.`)
  if (await folder.has('manifest.json'))
    throw new BundleError(`${path} is a bundle already: set TANDEM_MODEL to it.`)
  const names = (
    await Promise.all(['', 'onnx', 'visual', 'textual'].map((inner) => inside(folder, inner)))
  ).flat()
  const layout = layoutOf(names, path)
  if (layout === 'immich') return immich(folder, options)
  return layout === 'transformers.js'
    ? transformersJs(folder, names, options)
    : clipAsService(folder, options)
}

async function inside(folder: Folder, inner: string): Promise<string[]> {
  const names = await folder.names(inner)
  return names.map((name) => (inner === '' ? name : `${inner}/${name}`))
}

async function transformersJs(
  folder: Folder,
  names: readonly string[],
  options: ReadOptions,
): Promise<ForeignModel> {
  const config = await folder.json('config.json')
  const type = String(config.model_type)
  const isSiglip = type === 'siglip' || type === 'siglip2'
  if (!isSiglip && !['clip', 'mobileclip', 'jina_clip'].includes(type))
    throw new BundleError(
      `config.json of ${folder.path} has model_type "${type}"; expected clip, siglip or jina_clip.`,
    )
  if (type === 'siglip2')
    throw new BundleError(
      `${folder.path} takes images of any aspect (NaFlex); the graph of a bundle takes squares. Take a model with a fixed size.`,
    )
  const { images, texts, variant } = graphsOf(names, options.variant, folder.path)
  const tokenizer = await tokenizerIn(folder, '', options)
  const settings = await folder.jsonIf('tokenizer_config.json')
  const textConfig = (config.text_config ?? {}) as Json
  const isSiglip2 =
    isSiglip &&
    (/Gemma|Siglip2/.test(String(settings.tokenizer_class)) ||
      Number(textConfig.vocab_size) >= GEMMA_VOCABULARY)
  const length = lengthOf(textConfig.max_position_embeddings ?? settings.model_max_length, folder)
  const family = isSiglip ? (isSiglip2 ? 'SigLIP 2' : 'SigLIP') : type === 'clip' ? 'CLIP' : type
  const notes: string[] = []
  const pixels = fromTransformers(
    await folder.json('preprocessor_config.json'),
    'preprocessor_config.json',
  )
  return {
    layout: `transformers.js (${family}): onnx/*.onnx beside config.json with model_type "${type}"`,
    source: options.source ?? folder.path,
    image: {
      ...pixels,
      graph: images,
      outputs: isSiglip ? [...IMAGE_OUTPUTS, POOLED] : IMAGE_OUTPUTS,
    },
    text: {
      graph: texts,
      tokenizer,
      cleaning: isSiglip
        ? {
            ...AS_IS,
            lowercase: true,
            punctuation: isSiglip2 ? 'kept' : 'removed',
            collapse: !isSiglip2,
          }
        : AS_IS,
      ending: isSiglip
        ? {
            last: nameOf(settings.eos_token) ?? (isSiglip2 ? '<eos>' : '</s>'),
            never: isSiglip2 ? '<bos>' : null,
          }
        : null,
      length,
      padding: paddingOf(tokenizer, nameOf(settings.pad_token), folder),
      isPadded: isSiglip,
      outputs: isSiglip ? [...TEXT_OUTPUTS, POOLED] : TEXT_OUTPUTS,
    },
    logits: await logitsIn(folder),
    loss: isSiglip ? 'sigmoid' : 'softmax',
    precision: precisionOf(variant),
    ...(await cardOf(folder)),
    notes,
  }
}

async function immich(folder: Folder, options: ReadOptions): Promise<ForeignModel> {
  if (options.variant !== undefined && options.variant !== 'fp32')
    throw new BundleError(`The layout of Immich has no variant ${options.variant}.`)
  const config = await folder.json('config.json')
  const textConfig = (config.text_cfg ?? {}) as Json
  const kwargs = (textConfig.tokenizer_kwargs ?? {}) as Json
  const isTransformers = typeof textConfig.hf_tokenizer_name === 'string'
  const tokenizer = await tokenizerIn(folder, 'textual/', options)
  const settings = await folder.jsonIf('textual/tokenizer_config.json')
  const isCanonical = kwargs.clean === 'canonicalize'
  const isCleanedByRule = isTransformers || isCanonical || kwargs.clean !== undefined
  const notes: string[] = []
  const file = 'visual/preprocess_cfg.json'
  const image = fromOpenClip(await folder.json(file), file)
  if (image.pixels.fit === 'fill')
    notes.push(
      'Images are squashed, as in training and in preprocess_cfg.json. Immich itself crops them, so its vectors differ.',
    )
  return {
    layout: 'Immich: visual/model.onnx and textual/model.onnx',
    source: options.source ?? folder.path,
    image: { ...image, graph: 'visual/model.onnx', outputs: IMAGE_OUTPUTS },
    text: {
      graph: 'textual/model.onnx',
      tokenizer,
      cleaning: {
        straightQuotes: true,
        lowercase: isCanonical || kwargs.clean === 'lower' || !isTransformers,
        punctuation: isCanonical ? 'spaced' : 'kept',
        collapse: isCleanedByRule,
      },
      ending: null,
      length: lengthOf(textConfig.context_length ?? settings.model_max_length ?? 77, folder),
      padding: paddingOf(tokenizer, nameOf(settings.pad_token), folder),
      isPadded: true,
      outputs: TEXT_OUTPUTS,
    },
    logits: await logitsIn(folder),
    loss: config.init_logit_bias === undefined ? 'softmax' : 'sigmoid',
    precision: 'fp32',
    ...(await cardOf(folder)),
    notes,
  }
}

async function clipAsService(folder: Folder, options: ReadOptions): Promise<ForeignModel> {
  const { preprocess = '' } = options
  const [rule, size = '224'] = preprocess.split(':')
  const named = Object.hasOwn(NAMED_PREPROCESSING, rule ?? '')
    ? NAMED_PREPROCESSING[rule ?? '']
    : undefined
  if (options.tokenizer === undefined || named === undefined || !/^\d+$/.test(size)) {
    throw new BundleError(
      `${folder.path} has the layout of clip-as-service, visual.onnx and textual.onnx, which says nothing of texts and pixels; expected --tokenizer with a tokenizer.json and --preprocess with one of ${Object.keys(NAMED_PREPROCESSING).join(', ')}, and its side where that is not 224, such as clip:336.`,
    )
  }
  const tokenizer = await tokenizerIn(folder, '', options)
  const isSiglip = rule === 'siglip'
  return {
    layout: 'clip-as-service: visual.onnx and textual.onnx',
    source: options.source ?? folder.path,
    image: { ...named(Number(size)), graph: 'visual.onnx', outputs: IMAGE_OUTPUTS },
    text: {
      graph: 'textual.onnx',
      tokenizer,
      cleaning: isSiglip
        ? { straightQuotes: true, lowercase: true, punctuation: 'spaced', collapse: true }
        : { straightQuotes: true, lowercase: true, punctuation: 'kept', collapse: true },
      ending: null,
      length: isSiglip ? 64 : 77,
      padding: paddingOf(tokenizer, isSiglip ? '<pad>' : null, folder),
      isPadded: true,
      outputs: TEXT_OUTPUTS,
    },
    logits: null,
    loss: isSiglip ? 'sigmoid' : 'softmax',
    precision: 'fp32',
    ...(await cardOf(folder)),
    notes: [`Pixels are made as --preprocess ${preprocess} says.`],
  }
}

async function tokenizerIn(
  folder: Folder,
  inner: string,
  { tokenizer: path }: ReadOptions,
): Promise<TokenizerFile> {
  const name = `${inner}tokenizer.json`
  if (path === undefined && !(await folder.has(name)))
    throw new BundleError(
      `${folder.path} has no ${name}. Take it from another copy of the model, with --tokenizer.`,
    )
  const found =
    path === undefined
      ? await folder.json(name)
      : await new Folder(dirname(path)).json(basename(path))
  const { model } = found as Partial<TokenizerFile>
  if (typeof model !== 'object' || typeof model.vocab !== 'object')
    throw new BundleError(`${path ?? name} has no vocabulary: it is not a tokenizer.json.`)
  return found as unknown as TokenizerFile
}

/**
 * CLIP's own library pads with 0. The padding token that transformers names instead changes nothing
 * in a causal model, and the embedding in one that is not, such as MobileCLIP.
 */
function paddingOf(file: TokenizerFile, name: string | null, { path }: Folder): number {
  if (tokenId(file, CLIP_END) !== undefined) return 0
  const padding = name === null ? undefined : tokenId(file, name)
  if (padding === undefined)
    throw new BundleError(
      `tokenizer_config.json of ${path} names no padding token of its vocabulary.`,
    )
  return padding
}

/** A token is written as a string or as an object. */
function nameOf(token: unknown): string | null {
  const content = (token as { content?: unknown } | null | undefined)?.content ?? token
  return typeof content === 'string' ? content : null
}

function lengthOf(length: unknown, { path }: Folder): number {
  if (!Number.isInteger(length) || (length as number) < 2)
    throw new BundleError(`${path} does not say how many tokens a text has at most.`)
  return Math.min(length as number, MAX_TOKENS)
}

function precisionOf(variant: string): 'fp32' | 'int8' {
  return variant === 'fp32' ? 'fp32' : 'int8'
}

/** From weights of PyTorch beside the graphs, or from export_meta.json. */
async function logitsIn(folder: Folder): Promise<ForeignModel['logits']> {
  const meta = await folder.jsonIf('export_meta.json')
  if (typeof meta.logit_scale === 'number')
    return { scale: meta.logit_scale, bias: Number(meta.logit_bias ?? 0) }
  for (const name of ['model.safetensors', 'open_clip_model.safetensors']) {
    const numbers = await folder.numbers(name, ['logit_scale', 'logit_bias'])
    const scale = numbers.get('logit_scale')
    if (scale !== undefined) return { scale: Math.exp(scale), bias: numbers.get('logit_bias') ?? 0 }
  }
  return null
}

/** License and languages in the front matter of the card. */
async function cardOf(folder: Folder): Promise<Pick<ForeignModel, 'license' | 'languages'>> {
  const [, front = ''] = /^---\r?\n([^]*?)\r?\n---/.exec(await folder.textIf('README.md')) ?? []
  const field = (name: string): string | undefined =>
    new RegExp(`^${name}: *["']?([\\w.-]+)`, 'm').exec(front)?.[1]
  const named = field('license')
  const license = named === 'other' ? (field('license_name') ?? named) : (named ?? null)
  const listed = /^language:\s*((?:\n?\s*- *[a-z]{2,3}\s*)+|[a-z]{2,3}$)/m.exec(front)?.[1] ?? ''
  const languages = [...new Set(listed.match(/\b[a-z]{2,3}\b/g) ?? [])]
  return { license, languages: languages.length > 0 ? languages : null }
}
