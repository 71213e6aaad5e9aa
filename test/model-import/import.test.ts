/**
 * Models with random weights in each layout, imported and opened as the service opens them, against
 * the original libraries with their own preprocessing and tokenizers.
 */
import { execFileSync } from 'node:child_process'
import {
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { benchModel } from '../../src/cli/bench-model.js'
import { readConfig } from '../../src/config.js'
import { openModels } from '../../src/model/open.js'
import type { Models } from '../../src/model/models.js'
import { importModel, type Imported } from '../../src/model-import/import.js'
import type { ReadOptions } from '../../src/model-import/foreign.js'
import { missingModules, runPython } from '../support/python.js'
import { cosine } from '../support/random-embeddings.js'

vi.setConfig({ testTimeout: 120_000, hookTimeout: 240_000 })

const missing = missingModules('torch', 'transformers', 'open_clip', 'onnx')

/** Odd sizes, thin ones, and some beyond the stored image and beyond the reducing gap. */
const IMAGES = [
  [64, 64],
  [65, 64],
  [64, 67],
  [101, 77],
  [77, 102],
  [640, 427],
  [333, 500],
  [70, 300],
  [301, 71],
  [15, 22],
  [33, 129],
  [250, 251],
  [513, 257],
  [259, 700],
  [97, 96],
  [128, 65],
  [63, 190],
  [411, 123],
  [90, 91],
  [1000, 750],
] as const
const TEXTS = [
  'a brown dog runs across the grass',
  'A Brown DOG Runs Across The GRASS',
  'x',
  '?',
  'A',
  '1234',
  'a photo of a cat',
  'two people on a red bicycle',
  'Two people, on a RED bicycle!',
  'größere Straße',
  'Un café près de la plage',
  'it is 12:30 (isn’t it)',
  "it's raining",
  '  spaces   and\ttabs ',
  'snow_covered mountains',
  'a "quoted" word',
  'a-b-c',
  'end.',
  'a cat 🐈',
  '一只狗',
  'собака',
  'كلب',
  'çok güzel',
  'MiXeD CaSe',
  'hello   world',
  'the sea',
  'The Sea',
  'blue sky with clouds',
  'a man reading a newspaper',
  'children playing football in the park',
  'a very long text about nothing at all that goes on and on for more tokens than what fits',
  'so long that it is cut '.repeat(30),
  'one two three four five six seven eight nine ten eleven',
  'a tower',
  'a tower at night',
  'food on a table',
  'white',
  'white house',
  'no',
  'yes and no',
]
const CASES: readonly (readonly [string, ReadOptions])[] = [
  ['clip', {}],
  ['siglip', {}],
  ['siglip2', {}],
  ['mobileclip', {}],
  ['immich-siglip', {}],
  ['immich-next', {}],
  ['clip-as-service', { preprocess: 'clip:64' }],
  ['clip-combined', {}],
  ['clip-int8', { variant: 'int8' }],
  ['mobileclip-js', {}],
  ['jina-clip', {}],
]

let folder = ''
let originals: Record<string, { images: number[][]; texts: number[][] }> = {}
let files: Buffer[] = []

const source = (name: string): string => join(folder, name)
const optionsOf = (name: string, options: ReadOptions): ReadOptions =>
  name === 'clip-as-service'
    ? { ...options, tokenizer: join(source(name), 'tokenizer-of-clip.json') }
    : options

async function opened<Result>(
  bundle: string,
  use: (models: Models) => Promise<Result>,
): Promise<Result> {
  const models = await openModels({ folder: bundle, inferenceThreads: 1, maxImagePixels: 1e7 })
  return use(models).finally(() => models.close())
}

/** A copy of a folder with one file changed. */
function changed(
  name: string,
  file: string,
  change: (value: Record<string, unknown>) => void,
): string {
  const copy = mkdtempSync(join(folder, 'changed-'))
  cpSync(source(name), copy, { recursive: true })
  const path = join(copy, file)
  const value = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>
  change(value)
  writeFileSync(path, JSON.stringify(value))
  return copy
}

describe.skipIf(missing !== null)(`an imported model ${missing ?? ''}`, () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'tandem-foreign-'))
    originals = runPython(
      new URL('../fixtures/make-foreign-models.py', import.meta.url),
      { images: IMAGES, texts: TEXTS },
      [folder],
    ) as typeof originals
    files = IMAGES.map((_, i) => readFileSync(join(folder, 'images', `${i}.png`)))
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  describe.each(CASES)('of %s', (name, options) => {
    const into = (): string => join(folder, 'bundles')
    let imported: Imported
    beforeAll(async () => {
      imported = await importModel(source(name), {
        ...optionsOf(name, options),
        into: into(),
        name,
      })
    })

    it('embeds images and texts as the original does, alone and in any batch', async () => {
      const original = originals[name]
      expect(original?.texts).toHaveLength(TEXTS.length)
      await opened(imported.folder, async (models) => {
        const isSame = async (
          images: readonly number[],
          texts: readonly number[],
        ): Promise<void> => {
          const [ofImages, ofTexts] = await Promise.all([
            models.encodeImages(images.map((place) => files[place] ?? Buffer.alloc(0))),
            models.encodeTexts(texts.map((place) => TEXTS[place] ?? '')),
          ])
          const far = [
            ...images.map((place, i) => ({
              image: IMAGES[place],
              cosine: cosine(ofImages.encoded[i]?.embedding ?? [], original?.images[place] ?? []),
            })),
            ...texts.map((place, i) => ({
              text: TEXTS[place],
              cosine: cosine(ofTexts.encoded[i]?.embedding ?? [], original?.texts[place] ?? []),
            })),
          ].filter((one) => !(one.cosine >= 0.9999))
          expect(far).toEqual([])
        }
        await isSame([...IMAGES.keys()], [...TEXTS.keys()])
        for (const place of TEXTS.keys()) await isSame([], [place])
        for (const place of [0, 3, 5, 19]) await isSame([place], [])
        const subset = (count: number): fc.Arbitrary<number[]> =>
          fc.array(fc.nat(count - 1), { minLength: 1, maxLength: 12 })
        await fc.assert(fc.asyncProperty(subset(IMAGES.length), subset(TEXTS.length), isSame), {
          numRuns: 5,
          seed: 19,
        })
      })
    })

    it('has vectors that differ from input to input', () => {
      const { images = [], texts = [] } = originals[name] ?? {}
      expect(cosine(images[0] ?? [], images[5] ?? [])).toBeLessThan(0.999)
      expect(cosine(texts[0] ?? [], texts[7] ?? [])).toBeLessThan(0.999)
    })
  })

  it('of CLIP reads license and languages from the card', async () => {
    const { manifest } = await importModel(source('clip'), { into: folder, name: 'licensed' })
    expect(manifest).toMatchObject({
      license: 'mit',
      commercial_use: true,
      languages: ['en', 'fr'],
      match: { logit: 0, similarity: 100, bias: -28, calibrated: false },
    })
  })

  it('of SigLIP takes scale and bias of the logits from the folder', async () => {
    const { manifest } = await importModel(source('siglip'), { into: folder, name: 'scaled' })
    expect(manifest.match).toEqual({ logit: 0, similarity: 112.5, bias: -12.25, calibrated: false })
  })

  it('pads MobileCLIP with 0, SigLIP with 1 and SigLIP 2 with 0, and CLIP not at all', () => {
    const notes = (name: string): string =>
      readFileSync(join(folder, 'bundles', name, 'README.md'), 'utf8')
    expect(notes('mobileclip')).toContain('padded to 77 tokens with the id 0')
    expect(notes('siglip')).toContain('padded to 16 tokens with the id 1')
    expect(notes('siglip2')).toContain('padded to 16 tokens with the id 0')
    expect(notes('clip')).not.toContain('is padded')
  })

  it('of SigLIP 2 gives a text with capitals the vector of the text without', async () => {
    await opened(join(folder, 'bundles', 'siglip2'), async (models) => {
      const { encoded } = await models.encodeTexts(['A Brown DOG', 'a brown dog'])
      expect(encoded[0]?.embedding).toEqual(encoded[1]?.embedding)
    })
  })

  describe('with a rule broken on purpose is another model', () => {
    type Change = (value: Record<string, unknown>) => void
    const rules: [string, string, string, Change][] = [
      ['padding', 'siglip', 'tokenizer_config.json', (file) => (file.pad_token = '<unk>')],
      ['lowercasing', 'siglip2', 'tokenizer_config.json', (file) => (file.tokenizer_class = 'X')],
      [
        'squash',
        'siglip',
        'preprocessor_config.json',
        (file) => {
          Object.assign(file, { do_center_crop: true, size: { shortest_edge: 64 }, crop_size: 64 })
        },
      ],
      ['crop', 'mobileclip', 'visual/preprocess_cfg.json', (file) => (file.resize_mode = 'squash')],
      [
        'mean',
        'siglip2',
        'preprocessor_config.json',
        (file) => (file.image_mean = [0.2, 0.5, 0.5]),
      ],
      [
        'deviation',
        'clip',
        'preprocessor_config.json',
        (file) => (file.image_std = [0.1, 0.5, 0.9]),
      ],
      [
        'canonical texts',
        'immich-siglip',
        'config.json',
        (file) => {
          file.text_cfg = { context_length: 16, hf_tokenizer_name: 'a/b' }
        },
      ],
      ['kernel', 'siglip2', 'preprocessor_config.json', (file) => (file.resample = 1)],
    ]
    it.each(rules)('%s', async (rule, name, file, change) => {
      const copy = changed(name, file, change)
      const { folder: bundle } = await importModel(copy, {
        into: folder,
        name: `broken-${rules.findIndex(([one]) => one === rule)}`,
      })
      await opened(bundle, async (models) => {
        const [images, texts] = [await models.encodeImages(files), await models.encodeTexts(TEXTS)]
        const least = Math.min(
          ...images.encoded.map(({ embedding }, i) =>
            cosine(embedding, originals[name]?.images[i] ?? []),
          ),
          ...texts.encoded.map(({ embedding }, i) =>
            cosine(embedding, originals[name]?.texts[i] ?? []),
          ),
        )
        expect(least).toBeLessThan(0.9999)
      })
    })
  })

  it('in int8 is measured against fp32 by bench-model, and is smaller', async () => {
    const terminal = { out: new PassThrough(), err: new PassThrough() }
    const [int8, fp32] = ['clip-int8', 'clip'].map((name) => join(folder, 'bundles', name)) as [
      string,
      string,
    ]
    const options = { against: fp32, images: 1, rounds: 1 }
    const { bundles, speeds } = await benchModel(int8, options, readConfig({}), terminal)
    expect(bundles.map(({ precisions }) => [...new Set(precisions)])).toEqual([['int8'], ['fp32']])
    expect(new Set(speeds.map(({ graph }) => graph))).toEqual(new Set(['image', 'text']))
    for (const { milliseconds } of speeds) expect(milliseconds).toHaveLength(2)
    const bytes = (bundle: string): number =>
      ['image', 'text'].reduce(
        (sum, half) => sum + statSync(join(bundle, `${half}-encoder.onnx`)).size,
        0,
      )
    expect(bytes(int8)).toBeLessThan(0.6 * bytes(fp32))
  })

  it('that is there already is not replaced', async () => {
    await expect(
      importModel(source('clip'), { into: join(folder, 'bundles'), name: 'clip' }),
    ).rejects.toThrow(/clip exists/)
  })

  it('leaves no temporary folder behind', () => {
    expect(readdirSync(join(folder, 'bundles')).filter((name) => name.startsWith('.'))).toEqual([])
  })

  it('is added and listed by the command', () => {
    const tandem = (...args: string[]): string =>
      execFileSync(process.execPath, ['--import', 'tsx', 'src/cli.ts', 'models', ...args], {
        encoding: 'utf8',
        stdio: 'pipe',
      })
    const into = join(folder, 'of-the-command')
    const added = tandem('add', source('siglip2'), '--into', into, '--name', 'mine')
    expect(added).toMatch(/License: apache-2.0[^]*ms a text[^]*not calibrated[^]*TANDEM_MODEL=/)
    expect(tandem(into)).toMatch(/mine 1\.0\.0 .* dim 32 .* no fusion encoder .* verified/)
  })
})
