/** The goldens hold the service to what training recorded, when it starts. */
import { createHash } from 'node:crypto'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { BundleError } from '../../../src/model/bundle/bundle.js'
import { openModels } from '../../../src/model/open.js'
import type { Manifest } from '../../../src/model/bundle/bundle.js'

vi.setConfig({ testTimeout: 60_000 })

interface Goldens {
  texts: { token_ids: number[]; embedding: number[] }[]
  image: { embedding: number[]; image_tokens_head: number[] }
  matches: { text: number; logit: number }[]
  tolerances: { embedding_cosine: number; logit: number; image_token?: number }
}

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-goldens-'))
  await cp(fileURLToPath(new URL('../../fixtures/tiny-bundle', import.meta.url)), folder, {
    recursive: true,
  })
})

afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

async function recordInstead(edit: (goldens: Goldens) => unknown): Promise<void> {
  const goldens = JSON.parse(await readFile(join(folder, 'goldens.json'), 'utf8')) as Goldens
  edit(goldens)
  const bytes = Buffer.from(JSON.stringify(goldens))
  await writeFile(join(folder, 'goldens.json'), bytes)
  const manifest = JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8')) as Manifest
  const entry = manifest.files.find(({ path }) => path === 'goldens.json')
  Object.assign(entry ?? {}, {
    bytes: bytes.length,
    sha256: createHash('sha256').update(bytes).digest('hex'),
  })
  await writeFile(join(folder, 'manifest.json'), JSON.stringify(manifest))
}

const open = (): ReturnType<typeof openModels> =>
  openModels({ folder, inferenceThreads: 1, maxImagePixels: 1e6 })
const negated = (numbers: number[]): number[] => numbers.map((number) => -number)

describe('a bundle does not start', () => {
  it.each<[string, RegExp, (goldens: Goldens) => unknown]>([
    [
      'a text has another embedding',
      /^The text embedding of the goldens is 2 off; 0\.001 is tolerated\.$/,
      ({ texts }) =>
        ((texts.at(-1) as Goldens['texts'][0]).embedding = negated(texts.at(-1)?.embedding ?? [])),
    ],
    [
      'an embedding has another length',
      /^The text embedding of the goldens is NaN off/,
      ({ texts }) => texts[0]?.embedding.pop(),
    ],
    [
      'the image has another embedding',
      /^The image embedding of the goldens/,
      ({ image }) => (image.embedding = negated(image.embedding)),
    ],
    [
      'the image has other tokens',
      /^The image token of the goldens is \d+ off; 1 is tolerated/,
      ({ image }) =>
        (image.image_tokens_head[0] = (image.image_tokens_head[0] ?? 0) > 0 ? -128 : 127),
    ],
    [
      'a pair has another logit',
      /^The logit of the goldens is 1 off; 0\.05 is tolerated/,
      ({ matches }) => ((matches[1] as Goldens['matches'][0]).logit += 1),
    ],
    [
      'the goldens lack something',
      /goldens\.json of the bundle in .* does not hold goldens/,
      (goldens) => Reflect.deleteProperty(goldens, 'tolerances'),
    ],
    [
      'a match is of no text',
      /does not hold goldens: a field is missing/,
      ({ matches }) => ((matches[0] as Goldens['matches'][0]).text = 99),
    ],
  ])('when %s', async (_, sentence, edit) => {
    await recordInstead(edit)
    const refusal = open()
    await expect(refusal).rejects.toThrow(BundleError)
    await expect(refusal).rejects.toThrow(sentence)
  })
})

it('what differs within the tolerances is fine', async () => {
  await recordInstead(({ image, tolerances }) => {
    image.image_tokens_head[0] = (image.image_tokens_head[0] ?? 0) > 0 ? -128 : 127
    Object.assign(tolerances, { image_token: 255 })
  })
  const models = await open()
  await models.close()
})
