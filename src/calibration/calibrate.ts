/** Fits the match rule of a bundle on pairs and writes it into the bundle. */
import { copyFile, chmod, link, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { flush } from '../files/flush.js'
import { sha256OfFile } from '../files/sha256.js'
import type { Bundle, Manifest } from '../model/bundle/bundle.js'
import { openBundle } from '../model/bundle/open.js'
import type { Models } from '../model/models.js'
import { fitMatch, type Fit } from './fit.js'
import { DEPTH, scorePairs, type ImageTexts } from './score.js'

/** The pairs cannot tell a rule; the message says why. */
class PairsError extends Error {
  override readonly name = 'PairsError'
}

export interface Calibration extends Fit {
  images: number
  texts: number
  pairs: number
  /** The new rule. */
  rule: Manifest['match']
}

/** With fewer, a fold has too few to tell anything. */
const MIN_IMAGES = 20
const CARD = 'README.md'
/** Lines of a card about the calibration. */
const CARD_LINE = /^- `match` (?:is not|was) calibrated.*\n?/gm
const FOLDER_MODE = 0o755
const DECIMALS = 6

/**
 * @param advance - gets the number of images and texts that are done
 * @throws PairsError when there are too few pairs, or the bundle does not tell them apart;
 *   TandemError for an image that cannot be read
 */
export async function calibrationOf(
  models: Pick<Models, 'info' | 'encodeImages' | 'encodeTexts' | 'match'>,
  current: Manifest['match'],
  pairs: readonly ImageTexts[],
  advance: (count: number) => void,
): Promise<Calibration> {
  if (pairs.length < MIN_IMAGES)
    throw new PairsError(
      `There are ${pairs.length} images with texts; expected at least ${MIN_IMAGES}, and better some hundreds.`,
    )
  const scored = await scorePairs(models, pairs, advance)
  if (scored.argument.length === 0)
    throw new PairsError(
      `No text is in a language of the first text encoder (${models.info.textEncoders[0]?.languages.join(', ')}), whose rule is fitted.`,
    )
  if (scored.isMatch.every(Boolean))
    throw new PairsError('Every text belongs to every image: nothing tells what does not match.')
  let fit: Fit
  try {
    fit = fitMatch(scored)
  } catch (error) {
    if (error instanceof RangeError) throw new PairsError(error.message)
    throw error
  }
  const { scale, bias } = fit.sigmoid
  return {
    ...fit,
    images: pairs.length,
    texts: pairs.reduce((sum, { texts }) => sum + texts.length, 0),
    pairs: scored.argument.length,
    rule: {
      logit: rounded(scale * current.logit),
      similarity: rounded(scale * current.similarity),
      bias: rounded(scale * current.bias + bias),
      calibrated: true,
    },
  }
}

/**
 * Replaces a bundle by a new version of it with the rule. The other files stay; a service that runs
 * has the former ones open.
 * @param source - where the pairs come from, for the card
 * @throws Error of the file system; the bundle then stays
 */
export async function writeCalibration(
  { folder, manifest }: Bundle,
  calibration: Calibration,
  source: string,
): Promise<Manifest> {
  const parent = dirname(folder)
  const temporary = await mkdtemp(join(parent, `.${basename(folder)}-`))
  try {
    const next = changed(manifest, calibration, source)
    for (const { path } of manifest.files) {
      const [from, to] = [join(folder, path), join(temporary, path)]
      if (path !== CARD) await link(from, to).catch(() => copyFile(from, to))
      else {
        await writeFile(to, cardWith(await readFile(from, 'utf8'), manifest, next, calibration))
        await flush(to)
      }
    }
    next.files = await Promise.all(
      manifest.files.map(async (entry) =>
        entry.path === CARD
          ? { path: CARD, ...(await sha256OfFile(join(temporary, CARD))) }
          : entry,
      ),
    )
    const path = join(temporary, 'manifest.json')
    await writeFile(path, `${JSON.stringify(next, null, 1)}\n`)
    await flush(path)
    await openBundle(temporary)
    await chmod(temporary, FOLDER_MODE)
    await swap(folder, temporary)
    return next
  } finally {
    await rm(temporary, { recursive: true, force: true })
  }
}

async function swap(folder: string, next: string): Promise<void> {
  const former = `${next}.former`
  await rename(folder, former)
  try {
    await rename(next, folder)
  } catch (error) {
    await rename(former, folder)
    throw error
  }
  await flush(dirname(folder))
  await rm(former, { recursive: true, force: true })
}

function changed(
  manifest: Manifest,
  { rule, images, texts, pairs, before, after }: Calibration,
  source: string,
): Manifest {
  const [, major = '1', minor = '0', patch = '0'] =
    /^(\d+)\.(\d+)\.(\d+)/.exec(manifest.version) ?? []
  return {
    ...manifest,
    version: `${major}.${minor}.${Number(patch) + 1}`,
    match: rule,
    metrics: {
      ...manifest.metrics,
      calibration: {
        source,
        images,
        texts,
        pairs,
        depth: DEPTH,
        log_loss: { before: rounded(before.logLoss), after: rounded(after.logLoss) },
        expected_calibration_error: {
          before: rounded(before.calibrationError),
          after: rounded(after.calibrationError),
        },
        reliability: after.bins.map(({ predicted, observed, share }) => ({
          predicted: rounded(predicted),
          observed: rounded(observed),
          share: rounded(share),
        })),
      },
    },
  }
}

function cardWith(
  card: string,
  { name, version }: Manifest,
  next: Manifest,
  { images, texts, before, after }: Calibration,
): string {
  const line = `- \`match\` was calibrated by \`tandem calibrate\` on ${texts} texts of ${images} images: expected calibration error ${before.calibrationError.toFixed(3)} before, ${after.calibrationError.toFixed(3)} after, by rules that were not fitted on the image at hand.`
  const rest = card
    .replace(CARD_LINE, '')
    .replace(`# ${name} ${version}`, `# ${name} ${next.version}`)
  return `${rest.trimEnd()}\n${line}\n`
}

function rounded(value: number): number {
  return Number(value.toFixed(DECIMALS))
}
