/** `tandem calibrate`: fits the match rule of a bundle on the user's own pairs. */
import { writeFile } from 'node:fs/promises'
import { basename, extname, join, resolve } from 'node:path'
import { existsSync } from 'node:fs'
import type { Command } from 'commander'
import { calibrationOf, writeCalibration, type Calibration } from '../calibration/calibrate.js'
import { diagramLines, diagramSvg } from '../calibration/diagram.js'
import type { ImageTexts } from '../calibration/score.js'
import { packageFolder, readConfig, type Config } from '../config.js'
import { openBundle } from '../model/bundle/open.js'
import { modelSettings, openModels } from '../model/open.js'
import { wholeNumber, withServiceOptions, type ServiceOptions } from './options.js'
import {
  payloadPairs,
  readCsvPairs,
  shardPairs,
  withFiles,
  withStoredImages,
} from './captions/pairs.js'
import { withService } from './service.js'
import { printLine, startProgress, type Terminal } from './terminal/terminal.js'

interface CalibrateFlags extends ServiceOptions {
  payload?: string
  stored?: boolean
  language: string
  images: number
  diagram?: string
  dryRun?: boolean
}

export function addCalibrateCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command('calibrate')
    .description('fit the match of a bundle on images with texts that belong to them')
    .argument('<bundle>', 'folder of the bundle, or its name in models/')
    .argument(
      '[pairs]',
      'CSV or TSV with the columns image and text, or shards (.tar, or a folder)',
    )
    .option('--payload <field>', 'instead of pairs: stored items with a text in this field')
    .option('--stored', 'the column image has ids of stored items')
    .option('--language <code>', 'language of the captions in shards', 'en')
    .option('--images <count>', 'number of images', wholeNumber(1, 1_000_000), 1000)
    .option('--diagram <file>', 'write the reliability diagram as .svg or .json')
    .option('--dry-run', 'print the figures and leave the bundle as it is')
  withServiceOptions(command).action(
    async (bundle: string, pairs: string | undefined, flags: CalibrateFlags) => {
      await calibrate(bundle, pairs, flags, readConfig(process.env), terminal)
    },
  )
}

async function calibrate(
  name: string,
  path: string | undefined,
  flags: CalibrateFlags,
  config: Config,
  terminal: Terminal,
): Promise<void> {
  const { diagram } = flags
  if (diagram !== undefined && !['.svg', '.json'].includes(extname(diagram)))
    throw new Error(`--diagram is ${diagram}; expected a name that ends with .svg or .json.`)
  const bundle = await openBundle(
    existsSync(name) ? resolve(name) : join(packageFolder, 'models', name),
  )
  const pairs = await pairsOf(path, flags, config)
  const models = await openModels({ ...modelSettings(config), folder: bundle.folder })
  const texts = pairs.reduce((sum, { texts: own }) => sum + own.length, 0)
  const bar = startProgress(terminal, pairs.length + texts, 'images and texts')
  let calibration: Calibration
  try {
    calibration = await calibrationOf(models, bundle.manifest.match, pairs, (count) =>
      bar.advance(count),
    )
  } finally {
    bar.stop()
    await models.close()
  }
  for (const line of linesOf(calibration)) printLine(terminal.out, line)
  if (diagram !== undefined)
    await writeFile(
      diagram,
      extname(diagram) === '.svg'
        ? diagramSvg(bundle.manifest.name, calibration)
        : `${JSON.stringify(calibration, null, 2)}\n`,
    )
  if (flags.dryRun === true) return
  const source = path === undefined ? `payload.${flags.payload}` : basename(path)
  const { version } = await writeCalibration(bundle, calibration, source)
  printLine(
    terminal.out,
    `Wrote ${bundle.folder}, version ${version}. A service uses it at its next start.`,
  )
}

async function pairsOf(
  path: string | undefined,
  { payload, stored, language, images, ...service }: CalibrateFlags,
  config: Config,
): Promise<ImageTexts[]> {
  if ((path === undefined) === (payload === undefined))
    throw new Error('Expected either a file of pairs or --payload.')
  if (path === undefined)
    return withService(service, config, async (client) =>
      withStoredImages(client, await payloadPairs(client, payload ?? '', images)),
    )
  if (!/\.[ct]sv$/i.test(path)) return shardPairs(path, language, images)
  const pairs = (await readCsvPairs(path)).slice(0, images)
  return stored === true
    ? withService(service, config, (client) => withStoredImages(client, pairs))
    : withFiles(path, pairs)
}

function linesOf(calibration: Calibration): string[] {
  const { images, texts, pairs, before, after, rule } = calibration
  const change = (from: number, to: number): string => `${from.toFixed(4)} → ${to.toFixed(4)}`
  return [
    `${texts} texts of ${images} images, ${pairs} pairs with near misses`,
    `Expected calibration error: ${change(before.calibrationError, after.calibrationError)}`,
    `Log loss: ${change(before.logLoss, after.logLoss)}`,
    'The figures after are by rules that were not fitted on the image at hand.',
    '',
    ...diagramLines(calibration),
    '',
    `Rule: match = sigmoid(${rule.logit} · logit + ${rule.similarity} · similarity + ${rule.bias})`,
  ]
}
