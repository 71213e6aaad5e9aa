/** Folders that are broken in many ways: each is refused in a sentence, and nothing is left. */
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { BundleError } from '../../src/model/bundle/bundle.js'
import { openBundle } from '../../src/model/bundle/open.js'
import { MODEL } from '../../src/model/onnx/onnx-schema.js'
import { importModel, type ImportOptions } from '../../src/model-import/import.js'
import { node, value, TYPE, type Model } from '../../src/model-import/graph.js'
import { makeImmichFolder } from '../support/immich-folder.js'
import { randomNumbers } from '../support/random-embeddings.js'

vi.setConfig({ testTimeout: 120_000 })

const bundle = fileURLToPath(new URL('../fixtures/tiny-dual-bundle', import.meta.url))
let scratch = ''
let whole = ''
let count = 0

/** A copy of the whole folder, broken by `breaks`. */
function broken(breaks: (folder: string) => void): string {
  const folder = join(scratch, `broken-${(count += 1)}`)
  cpSync(whole, folder, { recursive: true })
  breaks(folder)
  return folder
}

async function outcome(folder: string, options: Partial<ImportOptions> = {}): Promise<string> {
  const into = join(scratch, 'bundles')
  mkdirSync(into, { recursive: true })
  const name = `made-${count}`
  const error = await importModel(folder, { into, name, ...options }).then(
    () => null,
    (failure: unknown) => failure,
  )
  const left = readdirSync(into)
  rmSync(into, { recursive: true })
  if (error === null) {
    expect(left).toEqual([name])
    return 'imported'
  }
  expect(left).toEqual([])
  expect(error, String((error as Error).stack)).toBeInstanceOf(BundleError)
  const { message } = error as Error
  expect(message).toMatch(/^\S.{10,2000}$/s)
  return message
}

function editGraph(file: string, edit: (model: Model) => void): (folder: string) => void {
  return (folder) => {
    const path = join(folder, file)
    const model = MODEL.decode(readFileSync(path)) as unknown as Model
    edit(model)
    writeFileSync(path, MODEL.encode(model).finish())
  }
}

function editJson(file: string, edit: (value: Record<string, unknown>) => void) {
  return (folder: string): void => {
    const path = join(folder, file)
    const content = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>
    edit(content)
    writeFileSync(path, JSON.stringify(content))
  }
}

const weightOf = (model: Model): NonNullable<Model['graph']['initializer']>[number] =>
  model.graph.initializer?.find(({ raw_data: raw }) => (raw?.length ?? 0) > 8) ?? {}

function external(entries: Record<string, string>): (model: Model) => void {
  return (model) => {
    const weight = weightOf(model)
    delete weight.raw_data
    weight.data_location = 1
    weight.external_data = Object.entries(entries).map(([key, value]) => ({ key, value }))
  }
}

beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'tandem-malformed-'))
  whole = makeImmichFolder(join(scratch, 'whole'))
})
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

const visual = 'visual/model.onnx'
const textual = 'textual/model.onnx'
const REFUSED: [string, (folder: string) => void, RegExp][] = [
  ['no text encoder', (f) => rmSync(join(f, textual)), /Immich without textual\/model\.onnx/],
  ['no image encoder', (f) => rmSync(join(f, visual)), /Immich without visual\/model\.onnx/],
  [
    'no tokenizer',
    (f) => rmSync(join(f, 'textual/tokenizer.json')),
    /no textual\/tokenizer\.json.*--tokenizer/,
  ],
  [
    'no preprocessing',
    (f) => rmSync(join(f, 'visual/preprocess_cfg.json')),
    /preprocess_cfg\.json .* cannot be read/,
  ],
  ['no configuration', (f) => rmSync(join(f, 'config.json')), /config\.json .* cannot be read/],
  [
    'no padding token',
    (f) => rmSync(join(f, 'textual/tokenizer_config.json')),
    /names no padding token/,
  ],
  [
    'a configuration that is no JSON',
    (f) => writeFileSync(join(f, 'config.json'), '{"a":'),
    /is not JSON/,
  ],
  [
    'a configuration that is a list',
    (f) => writeFileSync(join(f, 'config.json'), '[1]'),
    /no JSON object/,
  ],
  [
    'a tokenizer without a vocabulary',
    (f) => writeFileSync(join(f, 'textual/tokenizer.json'), '{}'),
    /no vocabulary/,
  ],
  [
    'another number of tokens',
    editJson('config.json', (c) => (c.text_cfg = { context_length: 1 })),
    /how many tokens/,
  ],
  [
    'an unknown kernel',
    editJson('visual/preprocess_cfg.json', (c) => (c.interpolation = 'nearest')),
    /interpolation "nearest"/,
  ],
  [
    'an unknown fit',
    editJson('visual/preprocess_cfg.json', (c) => (c.resize_mode = 'warp')),
    /resize_mode "warp"/,
  ],
  [
    'an image that is no square',
    editJson('visual/preprocess_cfg.json', (c) => (c.size = [32, 64])),
    /size \[32,64\]/,
  ],
  [
    'another image size',
    editJson('visual/preprocess_cfg.json', (c) => (c.size = 64)),
    /expected one of pixels, float32 \[\*, 3, 64, 64\]/,
  ],
  [
    'a deviation of nothing',
    editJson('visual/preprocess_cfg.json', (c) => (c.std = [1, 0, 1])),
    /no mean and deviation/,
  ],
  [
    'an encoder for an encoder',
    (f) => copyFileSync(join(f, textual), join(f, visual)),
    /expected one of pixels/,
  ],
  ['a graph of nothing', (f) => writeFileSync(join(f, visual), ''), /no graph|not a graph/],
  [
    'a graph that is an image',
    (f) => copyFileSync(join(bundle, 'goldens-image.png'), join(f, visual)),
    /not a graph/,
  ],
  [
    'an operator of somebody else',
    editGraph(visual, ({ graph }) => {
      graph.node.push({ ...node('Evil', [], 'evil'), domain: 'evil.ops' })
    }),
    /operators of "evil\.ops"/,
  ],
  [
    'an operator that runs another file',
    editGraph(visual, ({ graph }) => {
      graph.node.push({ ...node('EPContext', [], 'evil'), domain: 'com.microsoft' })
    }),
    /EPContext/,
  ],
  [
    'an operator that does not exist',
    editGraph(textual, ({ graph }) => {
      const [first] = graph.node
      if (first !== undefined) first.op_type = 'Frobnicate'
    }),
    /Frobnicate/,
  ],
  [
    'a later opset',
    editGraph(visual, (model) => (model.opset_import = [{ domain: '', version: 99 }])),
    /opset 99; expected 11 to 23/,
  ],
  ['no opset', editGraph(visual, (model) => (model.opset_import = [])), /opset NaN/],
  ['no output', editGraph(visual, ({ graph }) => (graph.output = [])), /has the outputs/],
  [
    'an output of another rank',
    editGraph(visual, ({ graph }) => {
      graph.output = [value('embedding', TYPE.float, ['b', 2, 4])]
    }),
    /a vector of float32/,
  ],
  [
    'a further input',
    editGraph(textual, ({ graph }) => {
      graph.input.push(value('more', TYPE.float, ['b', 3]))
      graph.node.unshift(node('Identity', ['more'], 'more/same'))
      graph.node.at(-1)?.input.push('more/same')
    }),
    /expected token ids and at most their mask/,
  ],
  [
    'weights in a file above',
    editGraph(visual, external({ location: '../../etc/passwd' })),
    /expected a plain name/,
  ],
  [
    'weights in an absolute file',
    editGraph(visual, external({ location: '/etc/passwd' })),
    /expected a plain name/,
  ],
  [
    'weights in a file of another folder',
    editGraph(visual, external({ location: 'a/b' })),
    /expected a plain name/,
  ],
  ['weights in no file', editGraph(visual, external({})), /expected a plain name/],
  [
    'weights in a missing file',
    editGraph(visual, external({ location: 'weights' })),
    /missing beside the graph/,
  ],
  [
    'weights behind a link',
    (f) => {
      symlinkSync('/etc/passwd', join(f, 'visual/weights'))
      editGraph(visual, external({ location: 'weights' }))(f)
    },
    /link that leads out/,
  ],
  [
    'weights beyond the end of their file',
    (f) => {
      writeFileSync(join(f, 'visual/weights'), Buffer.alloc(16))
      editGraph(visual, external({ location: 'weights', offset: '12', length: '64' }))(f)
    },
    /which has 16 bytes/,
  ],
  [
    'weights before the start of their file',
    (f) => {
      writeFileSync(join(f, 'visual/weights'), Buffer.alloc(1e5))
      editGraph(visual, external({ location: 'weights', offset: '-8' }))(f)
    },
    /which has 100000 bytes/,
  ],
  [
    'weights of a huge shape',
    (f) => {
      writeFileSync(join(f, 'visual/weights'), Buffer.alloc(1e5))
      editGraph(visual, (model) => {
        external({ location: 'weights' })(model)
        weightOf(model).dims = [2 ** 40, 2 ** 10]
        const hidden = model.graph.initializer?.find(({ data_location: at }) => at === 1)
        if (hidden !== undefined) hidden.dims = [2 ** 40, 2 ** 10]
      })(f)
    },
    /which has 100000 bytes|ends|lies at/,
  ],
  [
    'a huge shape inside the graph',
    editGraph(visual, (model) => (weightOf(model).dims = [2 ** 40, 2 ** 10])),
    /model\.onnx|graph/,
  ],
]

describe('a folder with', () => {
  it.each(REFUSED)('%s is refused', async (_, breaks, sentence) => {
    expect(await outcome(broken(breaks))).toMatch(sentence)
  })
})

it('the whole folder is imported', async () => {
  expect(await outcome(whole)).toBe('imported')
})

it('other folders are refused with what is expected', async () => {
  expect(await outcome(join(scratch, 'missing'))).toMatch(/no folder with files/)
  expect(await outcome(bundle)).toMatch(/a bundle already/)
  const plain = join(scratch, 'plain')
  mkdirSync(plain)
  writeFileSync(join(plain, 'notes.txt'), '')
  expect(await outcome(plain)).toMatch(/no layout that is known; expected onnx\/\*\.onnx/)
  writeFileSync(join(plain, 'model.safetensors'), '')
  expect(await outcome(plain)).toMatch(/weights of PyTorch/)
  for (const name of ['visual.onnx', 'textual.onnx'])
    copyFileSync(join(whole, visual), join(plain, name))
  expect(await outcome(plain)).toMatch(/--tokenizer .* --preprocess/)
  mkdirSync(join(plain, 'onnx'))
  writeFileSync(join(plain, 'onnx', 'decoder.onnx'), '')
  writeFileSync(join(plain, 'config.json'), '{"model_type": "clip"}')
  expect(await outcome(plain)).toMatch(/has decoder\.onnx; expected text_model\.onnx/)
  writeFileSync(join(plain, 'config.json'), '{"model_type": "bert"}')
  expect(await outcome(plain)).toMatch(/model_type "bert"/)
  writeFileSync(join(plain, 'config.json'), '{"model_type": "siglip2"}')
  expect(await outcome(plain)).toMatch(/NaFlex/)
})

it('cut graphs and configurations with other values are refused, or imported whole', async () => {
  const next = randomNumbers(7)
  const pick = <Value>(values: readonly Value[]): Value =>
    values[Math.floor(next() * values.length)] as Value
  const strange = [null, -1, 0, 1.5, 1e300, 'x', '', [], {}, [[]], true, { height: 'x' }, [1, 2, 3]]
  const jsons = ['config.json', 'visual/preprocess_cfg.json', 'textual/tokenizer_config.json']
  const outcomes: string[] = []
  for (let i = 0; i < 60; i += 1) {
    const folder = broken((made) => {
      if (i % 3 === 0) {
        const path = join(made, pick([visual, textual]))
        const bytes = readFileSync(path)
        writeFileSync(path, bytes.subarray(0, 1 + Math.floor(next() * (bytes.length - 1))))
        return
      }
      editJson(pick(jsons), (content) => {
        const key = pick(Object.keys(content))
        const inner = content[key]
        if (typeof inner === 'object' && inner !== null && next() < 0.5)
          Object.assign(inner, { [pick(Object.keys(inner))]: pick(strange) })
        else content[key] = pick(strange)
      })(made)
    })
    outcomes.push(await outcome(folder))
  }
  expect(outcomes.filter((one) => one !== 'imported').length).toBeGreaterThan(30)
})

it('imported bundles pass the check of bundles', async () => {
  const into = join(scratch, 'checked')
  const { folder } = await importModel(whole, { into, name: 'checked' })
  const { manifest } = await openBundle(folder)
  expect(manifest).toMatchObject({ name: 'checked', embedding: { dim: 8 } })
  expect(manifest.license).toMatch(/not stated/)
})
