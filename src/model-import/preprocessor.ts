/** How a folder describes what happens to an image before the graph. */
import { BundleError, type Filter, type PixelRules } from '../model/bundle/bundle.js'
import type { Normalisation } from './foreign.js'

export interface Preprocessing {
  pixels: PixelRules
  normalisation: Normalisation
}

type Settings = Readonly<Record<string, unknown>>

/** PIL.Image.Resampling */
const FILTERS: Readonly<Record<string, Filter>> = {
  1: 'lanczos',
  2: 'bilinear',
  3: 'bicubic',
  lanczos: 'lanczos',
  bilinear: 'bilinear',
  bicubic: 'bicubic',
}
/** Limits of the manifest. */
const MIN_SIDE = 32
const MAX_SIDE = 1024
const BLACK = [0, 0, 0]

/** Preprocessing for folders that do not describe it: `--preprocess`. */
export const NAMED_PREPROCESSING: Readonly<Record<string, (size: number) => Preprocessing>> = {
  clip: (size) => ({
    pixels: { size, fit: 'crop', resample: 'bicubic', centre: 'even', source: 'sent' },
    normalisation: {
      rescale: 1 / 255,
      mean: [0.48145466, 0.4578275, 0.40821073],
      deviation: [0.26862954, 0.26130258, 0.27577711],
    },
  }),
  siglip: (size) => ({
    pixels: { size, fit: 'fill', resample: 'bicubic', source: 'sent' },
    normalisation: { rescale: 1 / 255, mean: [0.5, 0.5, 0.5], deviation: [0.5, 0.5, 0.5] },
  }),
}

/**
 * Reads preprocessor_config.json of transformers.
 * @param file - the name in errors
 * @throws BundleError for a rule that is unknown or that the service does not have
 */
export function fromTransformers(settings: Settings, file: string): Preprocessing {
  if (settings.resize_mode !== undefined) return fromOpenClip(settings, file)
  const { do_resize: resizes = true, do_center_crop: crops = false } = settings
  if (resizes !== true) throw unknown(file, 'do_resize', resizes)
  if (settings.do_pad === true) throw unknown(file, 'do_pad', true)
  const resample = FILTERS[settings.resample === undefined ? 2 : Number(settings.resample)]
  if (resample === undefined) throw unknown(file, 'resample', settings.resample)
  const size = sides(settings.size, file)
  const source = 'sent'
  const pixels: PixelRules = { size: size.length, fit: 'fill', resample, source }
  if (crops === true) {
    const crop = sides(settings.crop_size ?? settings.size, file)
    if (!size.isShortest || crop.length !== size.length) {
      throw new BundleError(
        `${file} resizes to ${JSON.stringify(settings.size)} and crops to ${JSON.stringify(settings.crop_size)}; expected the short side to be the side of the crop.`,
      )
    }
    Object.assign(pixels, { fit: 'crop', centre: 'down' })
  } else if (size.isShortest && typeof settings.size === 'object') {
    throw new BundleError(
      `${file} resizes the short side and does not crop; the graph of a bundle takes squares.`,
    )
  }
  return { pixels, normalisation: normalisationIn(settings, file) }
}

/** Reads preprocess_cfg of open_clip, which Immich and jina-clip use too. */
export function fromOpenClip(settings: Settings, file: string): Preprocessing {
  const { resize_mode: mode = 'shortest', interpolation = 'bicubic', fill_color: fill } = settings
  const resample = FILTERS[String(interpolation)]
  if (resample === undefined || typeof interpolation !== 'string')
    throw unknown(file, 'interpolation', interpolation)
  const { length: size } = sides(settings.size, file)
  const rules: Readonly<Record<string, Partial<PixelRules>>> = {
    squash: { fit: 'fill' },
    shortest: { fit: 'crop', centre: 'even' },
    longest: { fit: 'pad', background: colour(fill) },
  }
  const rule = typeof mode === 'string' ? rules[mode] : undefined
  if (rule === undefined) throw unknown(file, 'resize_mode', mode)
  return {
    pixels: { size, resample, source: 'sent', ...rule },
    normalisation: normalisationIn(settings, file),
  }
}

function colour(fill: unknown): readonly number[] {
  if (typeof fill === 'number') return [fill, fill, fill]
  return Array.isArray(fill) && fill.length === 3 ? (fill as number[]) : BLACK
}

function normalisationIn(settings: Settings, file: string): Normalisation {
  const { do_rescale: rescales = true, do_normalize: normalises = true } = settings
  const { rescale_factor: factor = 1 / 255 } = settings
  const rescale = rescales === true ? factor : 1
  const [mean, deviation] =
    normalises === true
      ? [settings.image_mean ?? settings.mean, settings.image_std ?? settings.std]
      : [
          [0, 0, 0],
          [1, 1, 1],
        ]
  if (typeof rescale !== 'number' || !isThree(mean) || !isThree(deviation) || deviation.includes(0))
    throw new BundleError(
      `${file} has no mean and deviation of three numbers (image_mean and image_std, or mean and std).`,
    )
  return { rescale, mean, deviation }
}

function isThree(value: unknown): value is number[] {
  return Array.isArray(value) && value.length === 3 && value.every(Number.isFinite)
}

/** A square: n, [n, n], {height, width} or {shortest_edge}. */
function sides(size: unknown, file: string): { length: number; isShortest: boolean } {
  const named = size as { shortest_edge?: unknown; height?: unknown; width?: unknown } | null
  const isShortest = typeof size === 'number' || named?.shortest_edge !== undefined
  const both: unknown[] = Array.isArray(size) ? size : [named?.height, named?.width]
  const length = typeof size === 'number' ? size : (named?.shortest_edge ?? both[0])
  const isSide = typeof length === 'number' && Number.isInteger(length)
  if (!isSide || length < MIN_SIDE || length > MAX_SIDE || (!isShortest && both[0] !== both[1]))
    throw unknown(file, 'size', size)
  return { length, isShortest }
}

function unknown(file: string, name: string, value: unknown): BundleError {
  return new BundleError(
    `${file} has ${name} ${String(JSON.stringify(value)).slice(0, 100)}, which the service cannot do.`,
  )
}
