import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { calibrationOf, writeCalibration } from '../../src/calibration/calibrate.js'
import { diagramLines, diagramSvg } from '../../src/calibration/diagram.js'
import type { ImageTexts } from '../../src/calibration/score.js'
import { openBundle } from '../../src/model/bundle/open.js'
import type { EncodedImage, EncodedText, Models } from '../../src/model/models.js'
import { openModels } from '../../src/model/open.js'
import { randomEmbeddings } from '../support/random-embeddings.js'

const bundle = fileURLToPath(new URL('../fixtures/tiny-dual-bundle', import.meta.url))
const RULE = { logit: 0, similarity: 100, bias: -28, calibrated: false }
const IMAGES = 60
const DIM = 16
const anchors = randomEmbeddings(IMAGES, DIM, 1)
const noise = randomEmbeddings(2 * IMAGES, DIM, 2)

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tandem-calibrate-'))
  cpSync(bundle, join(folder, 'mine'), { recursive: true })
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

function near(anchor: Float32Array, other: Float32Array): Float32Array {
  const sum = anchor.map((value, i) => value + 0.8 * (other[i] ?? 0))
  const norm = Math.hypot(...sum)
  return sum.map((value) => value / norm)
}

/** A dual encoder in which a text lies near its image, and a rule that is far too sure. */
const models = {
  info: { tokenWidth: 0 } as Models['info'],
  encodeImages: (images: readonly Uint8Array[]) =>
    Promise.resolve({
      encoded: images.map(([place = 0]) => {
        const embedding = anchors[place] ?? new Float32Array()
        return { embedding, imageTokens: new Int8Array() } as EncodedImage
      }),
      timings: {},
    }),
  encodeTexts: (texts: readonly string[]) =>
    Promise.resolve({
      encoded: texts.map((text): EncodedText => {
        const [image = 0, which = 0] = text.split(' ').map(Number)
        const embedding = near(
          anchors[image] ?? new Float32Array(),
          noise[2 * image + which] ?? new Float32Array(),
        )
        return { embedding, textTokens: new Float32Array(), tokenCount: 0, encoder: 0 }
      }),
      timings: {},
    }),
  match: ((_texts, _images, pairs) =>
    Promise.resolve({
      matches: pairs.map(({ similarity }) => {
        const logit = RULE.similarity * similarity + RULE.bias
        return { logit, match: 1 / (1 + Math.exp(-logit)) }
      }),
      timings: {},
    })) as Models['match'],
}

const pairs = (count: number): ImageTexts[] =>
  Array.from({ length: count }, (_, image) => ({
    image: Uint8Array.of(image),
    texts: [`${image} 0`, `${image} 1`],
  }))

describe('a calibration', () => {
  it('makes a rule of pairs that is better on other images, and counts them', async () => {
    let done = 0
    const found = await calibrationOf(models, RULE, pairs(IMAGES), (count) => (done += count))
    expect(found).toMatchObject({ images: IMAGES, texts: 120, pairs: 120 * IMAGES })
    expect(done).toBe(IMAGES + 120)
    expect(found.rule).toMatchObject({ logit: 0, calibrated: true })
    expect(found.after.calibrationError).toBeLessThan(found.before.calibrationError)
    expect(diagramLines(found).length).toBe(found.after.bins.length + 1)
    expect(diagramSvg('mine', found)).toMatch(
      /^<svg [^]*before: calibration error 0\.\d{3}[^]*<\/svg>\n$/,
    )
  })

  it('of a text that two images have counts both as right', async () => {
    const twice = pairs(IMAGES).map((one, image) => (image < 2 ? { ...one, texts: ['0 0'] } : one))
    const { texts } = await calibrationOf(models, RULE, twice, () => undefined)
    expect(texts).toBe(118)
  })

  it('needs some images', async () => {
    await expect(calibrationOf(models, RULE, pairs(19), () => undefined)).rejects.toThrow(
      /19 images with texts; expected at least 20/,
    )
  })

  it('is written into the bundle as a new version, whose encodings stay valid', async () => {
    const before = await openBundle(join(folder, 'mine'))
    const card = before.manifest.files.some(({ path }) => path === 'README.md')
    const found = await calibrationOf(models, RULE, pairs(IMAGES), () => undefined)
    await writeCalibration(before, found, 'pairs.csv')
    const after = await openBundle(join(folder, 'mine'))
    expect(after.fingerprint).toBe(before.fingerprint)
    expect(after.manifest.version).not.toBe(before.manifest.version)
    expect(after.manifest.match).toEqual(found.rule)
    expect(after.manifest.metrics).toMatchObject({
      calibration: { source: 'pairs.csv', images: IMAGES, texts: 120 },
    })
    if (card)
      expect(readFileSync(join(folder, 'mine/README.md'), 'utf8')).toMatch(/was calibrated by/)
    expect(readdirSync(folder)).toEqual(['mine'])
    const opened = await openModels({
      folder: after.folder,
      inferenceThreads: 1,
      maxImagePixels: 1e6,
    })
    expect(opened.info.calibrated).toBe(true)
    await opened.close()
  }, 60_000)

  it('leaves the bundle where a file of it is damaged', async () => {
    const whole = await openBundle(join(folder, 'mine'))
    const found = await calibrationOf(models, RULE, pairs(IMAGES), () => undefined)
    const manifest = readFileSync(join(folder, 'mine/manifest.json'), 'utf8')
    writeFileSync(join(folder, 'mine/goldens.json'), '{}')
    await expect(writeCalibration(whole, found, 'x')).rejects.toThrow(/goldens.json/)
    expect(readFileSync(join(folder, 'mine/manifest.json'), 'utf8')).toBe(manifest)
    expect(readdirSync(folder)).toEqual(['mine'])
  })
})
