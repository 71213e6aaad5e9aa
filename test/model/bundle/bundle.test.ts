import { createHash } from 'node:crypto'
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BundleError } from '../../../src/model/bundle/bundle.js'
import { openModels } from '../../../src/model/open.js'
import { openBundle } from '../../../src/model/bundle/open.js'
import { readBundleFile } from '../../../src/model/bundle/bundle-file.js'
import type { Manifest } from '../../../src/model/bundle/bundle.js'

const tiny = fileURLToPath(new URL('../../fixtures/tiny-bundle', import.meta.url))
let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-bundle-'))
  await cp(tiny, folder, { recursive: true })
})

afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

async function manifest(): Promise<Manifest> {
  return JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8')) as Manifest
}

async function change(edit: (manifest: Manifest) => void): Promise<void> {
  const changed = await manifest()
  edit(changed)
  await writeFile(join(folder, 'manifest.json'), JSON.stringify(changed))
}

/** Puts `bytes` in the place of a file, and its true size and hash in the manifest. */
async function replaceFile(path: string, bytes: Buffer): Promise<void> {
  await writeFile(join(folder, path), bytes)
  await change(({ files }) => {
    const entry = files.find((file) => file.path === path)
    Object.assign(entry ?? {}, {
      bytes: bytes.length,
      sha256: createHash('sha256').update(bytes).digest('hex'),
    })
  })
}

async function expectRefusal(sentence: RegExp): Promise<void> {
  const refusal = openBundle(folder)
  await expect(refusal).rejects.toThrow(BundleError)
  await expect(refusal).rejects.toThrow(sentence)
}

describe('a bundle', () => {
  it('opens when it is whole', async () => {
    const bundle = await openBundle(folder)
    expect(bundle.manifest.name).toBe('tiny')
    expect(bundle.fingerprint).toMatch(/^[0-9a-f]{16}$/)
    const card = await readBundleFile(bundle, 'README.md')
    expect(card).toEqual(await readFile(join(tiny, 'README.md')))
  })

  it.each<[string, RegExp, () => Promise<unknown>]>([
    ['there is none', /no model bundle in/, () => rm(join(folder, 'manifest.json'))],
    [
      'its manifest is not JSON',
      /manifest\.json is not JSON/,
      () => writeFile(join(folder, 'manifest.json'), '{'),
    ],
    [
      'a field is missing',
      /manifest schema.*embedding/,
      () => change((found) => Reflect.deleteProperty(found, 'embedding')),
    ],
    [
      'a field is unknown',
      /"surprise"/,
      () => change((found) => Object.assign(found, { surprise: 1 })),
    ],
    [
      'a field has a wrong type',
      /\/embedding\/dim/,
      () => change((found) => Object.assign(found.embedding, { dim: 'eight' })),
    ],
    [
      'the schema is of another version',
      /\/schema_version/,
      () => change((found) => Object.assign(found, { schema_version: 2 })),
    ],
    [
      'tokens are of no use',
      /fusion_encoder when property image_tokens/,
      () => change((found) => Reflect.deleteProperty(found, 'fusion_encoder')),
    ],
    [
      'tokens have no width',
      /\/text_encoder must have required property 'token_width'/,
      () => change((found) => Reflect.deleteProperty(found.text_encoder, 'token_width')),
    ],
    [
      'a precision is unknown',
      /\/text_encoder\/precision/,
      () => change((found) => Object.assign(found.text_encoder, { precision: 'fp8' })),
    ],
    [
      'its calibration falls',
      /\[0, 0\.5\] is followed by \[1, 0\.4\]/,
      () =>
        change(
          ({ match }) =>
            (match.knots = [
              [0, 0.5],
              [1, 0.4],
            ]),
        ),
    ],
    [
      'its calibration stands still',
      /\[1, 0\.5\] is followed by \[1, 0\.6\]/,
      () =>
        change(
          ({ match }) =>
            (match.knots = [
              [1, 0.5],
              [1, 0.6],
            ]),
        ),
    ],
    [
      'a file is missing',
      /tokenizer\.json of the bundle.*cannot be read/,
      () => rm(join(folder, 'tokenizer.json')),
    ],
    [
      'a file has another size',
      /README\.md.*has 1 bytes; its manifest says/,
      () => writeFile(join(folder, 'README.md'), 'x'),
    ],
    [
      'a graph is not listed',
      /text-encoder\.onnx.*not list/,
      () =>
        change(
          (found) => (found.files = found.files.filter(({ path }) => path !== 'text-encoder.onnx')),
        ),
    ],
  ])('is refused when %s', async (_, sentence, damage) => {
    await damage()
    await expectRefusal(sentence)
  })

  it('is refused when one byte of a graph differs', async () => {
    const bytes = await readFile(join(folder, 'fusion-encoder.onnx'))
    bytes.writeUInt8(bytes.readUInt8(300) ^ 1, 300)
    await writeFile(join(folder, 'fusion-encoder.onnx'), bytes)
    await expectRefusal(/fusion-encoder\.onnx.*SHA-256/)
  })

  it.each(['../outside.txt', '/etc/hostname', 'a/../../outside.txt', '.hidden', 'a\\b'])(
    'is refused when it lists "%s"',
    async (path) => {
      await change(({ files }) => files.push({ path, bytes: 1, sha256: 'a'.repeat(64) }))
      await expectRefusal(/plain relative name|manifest schema/)
    },
  )

  it('is refused when a link leads out of it', async () => {
    const outside = join(tiny, 'README.md')
    await rm(join(folder, 'README.md'))
    await symlink(outside, join(folder, 'README.md'))
    await expectRefusal(/link that leads out/)
  })
})

describe('the fingerprint', () => {
  it('does not follow the card, the metrics or the calibration', async () => {
    const { fingerprint } = await openBundle(folder)
    await replaceFile('README.md', Buffer.from('# another card\n'))
    await change((found) =>
      Object.assign(found, {
        metrics: { r1: 1 },
        match: { logit: 2, similarity: 3, bias: 4 },
        version: '9.0.0',
      }),
    )
    expect((await openBundle(folder)).fingerprint).toBe(fingerprint)
  })

  it('follows the graphs, the tokenizer and the shapes', async () => {
    const seen = new Set([(await openBundle(folder)).fingerprint])
    await replaceFile(
      'tokenizer.json',
      Buffer.concat([await readFile(join(folder, 'tokenizer.json')), Buffer.from('\n')]),
    )
    seen.add((await openBundle(folder)).fingerprint)
    await replaceFile('image-encoder.onnx', await readFile(join(folder, 'text-encoder.onnx')))
    seen.add((await openBundle(folder)).fingerprint)
    await change((found) => Object.assign(found.embedding, { dim: 16 }))
    seen.add((await openBundle(folder)).fingerprint)
    expect(seen.size).toBe(4)
  })
})

describe('the graphs', () => {
  const strangeFusion = async (name: string): Promise<void> =>
    replaceFile(
      'fusion-encoder.onnx',
      await readFile(join(tiny, '..', 'strange-graphs', `${name}.onnx`)),
    )
  const open = (): Promise<unknown> =>
    openModels({ folder, inferenceThreads: 1, maxImagePixels: 1e6 })

  it.each<[string, RegExp, () => Promise<unknown>]>([
    [
      'is no graph',
      /image-encoder\.onnx is not a graph/,
      () => replaceFile('image-encoder.onnx', Buffer.from('no graph')),
    ],
    [
      'has the inputs of another',
      /image-encoder\.onnx has the inputs .*token_ids.*expected are pixels uint8 \[\*, 32, 32, 3\]/,
      async () =>
        replaceFile('image-encoder.onnx', await readFile(join(folder, 'text-encoder.onnx'))),
    ],
    [
      'gives another number of values than the manifest says',
      /image-encoder\.onnx has the outputs .*expected are embedding float32 \[\*, 16\]/,
      () => change((found) => Object.assign(found.embedding, { dim: 16 })),
    ],
    [
      'has operators of somebody else',
      /fusion-encoder\.onnx uses operators of "evil\.ops", which are not allowed/,
      () => strangeFusion('custom-op'),
    ],
    [
      'has an operator that the runtime does not know',
      /fusion-encoder\.onnx is not a graph that can be run: .*Boom/,
      () => strangeFusion('unknown-op'),
    ],
    [
      'gives another shape than it declares',
      /fusion-encoder\.onnx has the output logit of shape \[4\]; expected \[2\]/,
      () => strangeFusion('lying-shape'),
    ],
    [
      'computes in half precision',
      /fusion-encoder\.onnx computes in half precision \(fp16\), which is for a GPU; the cpu takes fp32 and int8/,
      () => strangeFusion('half-weight'),
    ],
    [
      'is said to compute in half precision',
      /text-encoder\.onnx computes in half precision/,
      () => change(({ text_encoder: text }) => Object.assign(text, { precision: 'fp16' })),
    ],
    [
      'fails when it runs',
      /fusion-encoder\.onnx is not a graph that can be run: .*Gather/,
      () => strangeFusion('failing'),
    ],
  ])('refuse a file that %s', async (_, sentence, damage) => {
    await damage()
    const refusal = open()
    await expect(refusal).rejects.toThrow(BundleError)
    await expect(refusal).rejects.toThrow(sentence)
  })
})
