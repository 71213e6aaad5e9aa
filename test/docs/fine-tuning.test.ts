/**
 * The page "Train on your own photos": its commands on 64 generated photos, with one epoch and one
 * view of each photo. A bundle of the result serves, by re-embedding.
 */
import { execFileSync } from 'node:child_process'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { tandemProgram } from '../../src/cli/program.js'
import { packageFolder, readConfig } from '../../src/config.js'
import { buildApp } from '../../src/http/app.js'
import { argumentsOf, shellBlocks } from '../support/documents.js'
import { missingModules } from '../support/python.js'

const LIMIT_MS = 600_000 // trains, exports and measures the shipped bundle: half a minute of CPU
vi.setConfig({ testTimeout: LIMIT_MS, hookTimeout: LIMIT_MS })

const COLOURS = {
  red: [220, 30, 30],
  green: [30, 180, 40],
  blue: [30, 50, 220],
  yellow: [230, 220, 40],
} as const
const GROUNDS = {
  grey: [130, 130, 130],
  white: [240, 240, 240],
  black: [20, 20, 20],
  brown: [120, 80, 40],
} as const
const [WIDTH, HEIGHT] = [320, 240]
/** Whether a place from the middle is inside. */
const SHAPES: Readonly<Record<string, (x: number, y: number) => boolean>> = {
  circle: (x, y) => Math.hypot(x, y) < 60,
  square: (x, y) => Math.max(Math.abs(x), Math.abs(y)) < 60,
  bar: (x, y) => Math.abs(x) < 120 && Math.abs(y) < 20,
  cross: (x, y) => Math.min(Math.abs(x), Math.abs(y)) < 15 && Math.hypot(x, y) < 90,
}

const missing = missingModules('torch', 'tokenizers', 'onnx')
const commands = shellBlocks('docs/fine-tuning.md').flat()
const trainer = commands.filter((command) => command.includes('-m tandem_training.'))
let folder: string
let training: string

/** 64 drawings, and the table of the page with two captions of each. */
async function drawPhotos(): Promise<void> {
  const rows = ['file,caption']
  for (const [colour, fill] of Object.entries(COLOURS)) {
    for (const [ground, background] of Object.entries(GROUNDS)) {
      for (const [shape, isInside] of Object.entries(SHAPES)) {
        const name = `${colour}-${shape}-${ground}.jpg`
        const pixels = Buffer.alloc(WIDTH * HEIGHT * 3)
        for (let at = 0; at < WIDTH * HEIGHT; at += 1) {
          const inside = isInside((at % WIDTH) - WIDTH / 2, Math.floor(at / WIDTH) - HEIGHT / 2)
          pixels.set(inside ? fill : background, 3 * at)
        }
        await sharp(pixels, { raw: { width: WIDTH, height: HEIGHT, channels: 3 } })
          .jpeg()
          .toFile(join(training, 'photos', name))
        rows.push(`${name},a ${colour} ${shape} on a ${ground} ground`)
        rows.push(`${name},"${ground} ground, one ${colour} ${shape}"`)
      }
    }
  }
  expect(rows).toHaveLength(1 + 2 * 64)
  writeFileSync(join(training, 'captions.csv'), rows.join('\n'))
}

/** The recipe of the page, with one epoch and one view of each photo. */
function shortenRecipe(): void {
  const recipe = join(training, 'recipes', 'shipped', 'fine-tune.toml')
  const whole = readFileSync(recipe, 'utf8')
  const short = whole
    .replace(/^epochs = \d+$/m, 'epochs = 1')
    .replace(/^evaluate_every = \d+$/m, 'evaluate_every = 1')
    .replace(/^\[data\]$/m, '[data]\nviews = 1')
  expect(short.split('\n')).toHaveLength(whole.split('\n').length + 1)
  writeFileSync(recipe, short)
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tandem-fine-tuning-'))
  training = join(folder, 'training')
  mkdirSync(join(training, 'photos'), { recursive: true })
  cpSync(join(packageFolder, 'models', 'tandem-small'), join(folder, 'models', 'tandem-small'), {
    recursive: true,
  })
  cpSync(join(packageFolder, 'training', 'recipes'), join(training, 'recipes'), { recursive: true })
  symlinkSync(join(packageFolder, 'training', '.venv'), join(training, '.venv'))
  await drawPhotos()
  shortenRecipe()
})
afterAll(() => rmSync(folder, { recursive: true }))

function runTrainer(command: string): string {
  return execFileSync('bash', ['-euo', 'pipefail', '-c', command], {
    cwd: training,
    encoding: 'utf8',
    stdio: 'pipe',
    env: {
      PATH: process.env['PATH'],
      PYTHONPATH: join(packageFolder, 'training'), // the trainer of this checkout
      OMP_NUM_THREADS: '1',
      CUDA_VISIBLE_DEVICES: '',
    },
  })
}

async function serves(): Promise<void> {
  const tandem = await buildApp({
    ...readConfig({}),
    logLevel: 'silent',
    dataFolder: join(folder, 'data'),
    modelFolder: join(folder, 'models', 'tandem-small'),
    inferenceThreads: 1,
  })
  try {
    await tandem.start()
    const url = await tandem.app.listen({ port: 0 })
    for (const id of ['red-circle-grey', 'blue-bar-white', 'green-square-black']) {
      const { statusCode } = await tandem.app.inject({
        method: 'PUT',
        url: `/items/${id}`,
        payload: readFileSync(join(training, 'photos', `${id}.jpg`)),
        headers: { 'content-type': 'image/jpeg' },
      })
      expect(statusCode).toBe(201)
    }
    const reembed = commands.filter((command) => command.startsWith('npx tandem reembed'))
    expect(reembed).toHaveLength(2)
    for (const command of reembed) {
      const [, ...args] = argumentsOf('npx', command)
      const [out, err] = [new PassThrough(), new PassThrough()]
      await tandemProgram({ out, err }, () => Promise.resolve())
        .exitOverride()
        .parseAsync([...args, '--url', url], { from: 'user' })
    }
    const status = await tandem.app.inject('/reembedding')
    expect(status.json()).toMatchObject({ serving: { model: 'mine' } })
    const found = await tandem.app.inject('/search?q=a+red+circle&k=3')
    const hits = found.json<{ hits: { id: string; match: number | null }[] }>().hits
    expect(hits.map(({ id }) => id).sort()).toEqual([
      'blue-bar-white',
      'green-square-black',
      'red-circle-grey',
    ])
    expect(hits[0]?.id).toBe('red-circle-grey')
  } finally {
    await tandem.close()
  }
}

describe('the page "Train on your own photos"', () => {
  it.skipIf(missing)(
    `begins with a table of captions and ends with a bundle that serves ${missing ?? ''}`,
    async () => {
      expect(trainer.map((command) => /tandem_training\.(\w+)/.exec(command)?.[1])).toEqual([
        'prepare',
        'train',
        'export',
        'evaluate',
      ])
      const [prepared = '', trained = '', exported = '', measured = ''] = trainer.map(runTrainer)
      expect(prepared).toContain('58 images, 116 captions in shards/train-*.tar')
      expect(prepared).toContain('6 images, 12 captions in shards/dev-*.tar')
      expect(trained).toMatch(/started from \.\.\/models\/tandem-small: vision \((\d+) of \1\)/)
      expect(exported).toContain('"dev"')
      expect(measured).toContain('text_to_image')
      const card = readFileSync(join(folder, 'models', 'mine', 'README.md'), 'utf8')
      expect(card).toContain('the data of the bundle tandem-small')
      await serves()
    },
  )
})
