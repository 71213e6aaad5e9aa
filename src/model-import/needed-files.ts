/** Recognises a layout by the names of its files, and picks those that an import reads. */
import { BundleError } from '../model/bundle/bundle.js'

export type Layout = 'transformers.js' | 'immich' | 'clip-as-service'

/** Suffixes of transformers.js. */
const VARIANTS: Readonly<Record<string, string>> = {
  fp32: '',
  fp16: '_fp16',
  q8: '_quantized',
  int8: '_int8',
  uint8: '_uint8',
  q4: '_q4',
  q4f16: '_q4f16',
  bnb4: '_bnb4',
}
const DESCRIPTIONS = [
  'README.md',
  'config.json',
  'preprocessor_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'export_meta.json',
]

/**
 * @param names - of files, relative to the folder
 * @param place - the folder or id, for errors
 * @throws BundleError when no layout is known, or a part of it is missing
 */
export function layoutOf(names: readonly string[], place: string): Layout {
  const halves = ['visual', 'textual'].map((half) => names.includes(`${half}/model.onnx`))
  if (halves.every(Boolean)) return 'immich'
  if (halves.some(Boolean))
    throw new BundleError(
      `${place} has the layout of Immich without ${halves[0] === true ? 'textual' : 'visual'}/model.onnx.`,
    )
  if (names.some((name) => /^onnx\/[^/]+\.onnx$/.test(name))) return 'transformers.js'
  if (names.includes('visual.onnx') && names.includes('textual.onnx')) return 'clip-as-service'
  if (
    names.includes('open_clip_config.json') ||
    names.some((name) => /\.(safetensors|bin)$/.test(name))
  )
    throw new BundleError(
      `${place} has weights of PyTorch and no ONNX graphs. Import it with the trainer: python -m tandem_training.bundle.hugging_face.`,
    )
  throw new BundleError(
    `${place} has no layout that is known; expected onnx/*.onnx beside config.json (transformers.js), visual/model.onnx and textual/model.onnx (Immich), or visual.onnx and textual.onnx (clip-as-service).`,
  )
}

/**
 * The graphs of a variant in the layout of transformers.js: two, or one for both.
 * @throws BundleError when the variant is missing
 */
export function graphsOf(
  names: readonly string[],
  wanted: string | undefined,
  place: string,
): { images: string; texts: string; variant: string } {
  const graphs = (variant: string): [string, string] | null => {
    const suffix = VARIANTS[variant] ?? ''
    const [images, texts, both] = ['vision_model', 'text_model', 'model'].map(
      (name) => `onnx/${name}${suffix}.onnx`,
    ) as [string, string, string]
    if (names.includes(images) && names.includes(texts)) return [images, texts]
    return names.includes(both) ? [both, both] : null
  }
  const present = Object.keys(VARIANTS).filter((variant) => graphs(variant) !== null)
  if (present.length === 0) {
    const found = names.filter((name) => name.startsWith('onnx/')).map((name) => name.slice(5))
    throw new BundleError(
      `onnx/ of ${place} has ${found.slice(0, 20).join(', ')}; expected text_model.onnx and vision_model.onnx, or model.onnx.`,
    )
  }
  const variant = wanted ?? (present.includes('fp32') ? 'fp32' : (present[0] ?? ''))
  const [images, texts] = graphs(variant) ?? []
  if (images === undefined || texts === undefined || !Object.hasOwn(VARIANTS, variant))
    throw new BundleError(`${place} has no variant ${variant}; it has ${present.join(', ')}.`)
  return { images, texts, variant }
}

/**
 * The files of a model on the hub that an import reads.
 * @throws BundleError when no layout is known, or the variant is missing
 */
export function neededFiles(
  names: readonly string[],
  variant: string | undefined,
  place: string,
): string[] {
  const layout = layoutOf(names, place)
  const isNeeded = {
    'transformers.js': () => {
      const { images, texts } = graphsOf(names, variant, place)
      // Weights lie in `<graph>_data`, `<graph>_data_1` and so on.
      return (name: string) =>
        [images, texts].some((graph) => name === graph || name.startsWith(`${graph}_data`))
    },
    immich: () => (name: string) =>
      /^(visual|textual)\/[^/]+\.(json|onnx|onnx_data|data|bin|safetensors)$/.test(name),
    'clip-as-service': () => (name: string) => /^(visual|textual)\.[^/]+$/.test(name),
  }[layout]()
  return names.filter((name) => DESCRIPTIONS.includes(name) || isNeeded(name))
}
