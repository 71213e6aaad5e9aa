/** A bundle with several text encoders over the same images. */
import { rm } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { buildApp, type Tandem } from '../../../src/http/app.js'
import { EncodeOnlyCollection } from '../../../src/collection/encode-only.js'
import { readConfig } from '../../../src/config.js'
import { openBundle } from '../../../src/model/bundle/open.js'
import { openModels } from '../../../src/model/open.js'
import type { EncodedText, Models } from '../../../src/model/models.js'
import { openRemoteModels } from '../../../src/model/remote/remote-models.js'
import { bundleOfTwoLanguages, RULE } from '../../support/two-languages.js'

vi.setConfig({ testTimeout: 60_000 })

const ENGLISH = 'a brown dog runs across the grass'
const GERMAN = 'ein brauner Hund läuft über die grüne Wiese'
const CHINESE = '一只棕色的狗在草地上奔跑'
const fixture = (name: string): string =>
  fileURLToPath(new URL(`../../fixtures/${name}`, import.meta.url))
const settings = { inferenceThreads: 1, maxImagePixels: 1_000_000 }

let folder: string
let models: Models
let first: Models
let second: Models
let app: Tandem
let remote: Models

beforeAll(async () => {
  folder = await bundleOfTwoLanguages()
  models = await openModels({ folder, ...settings })
  first = await openModels({ folder: fixture('tiny-bundle'), ...settings })
  second = await openModels({ folder: fixture('tiny-dual-bundle'), ...settings })
  app = await buildApp(
    { ...readConfig({}), role: 'encode', logLevel: 'silent' },
    { open: () => Promise.resolve(new EncodeOnlyCollection(models)) },
  )
  await app.start()
  const url = await app.app.listen({ host: '127.0.0.1', port: 0 })
  remote = await openRemoteModels({ url, timeoutMs: 10_000, waitMs: 0 })
})

afterAll(async () => {
  await remote.close()
  await app.close()
  await Promise.all([first.close(), second.close()])
  await rm(folder, { recursive: true, force: true })
})

const folders: string[] = []
afterEach(async () => {
  for (const one of folders.splice(0)) await rm(one, { recursive: true, force: true })
})

async function embeddingOf(by: Models, text: string): Promise<number[]> {
  const [encoded] = (await by.encodeTexts([text])).encoded
  return [...(encoded as EncodedText).embedding]
}

async function expectByEncoders(by: Models): Promise<void> {
  const texts = [GERMAN, ENGLISH, CHINESE, '狗', 'dog', ENGLISH, GERMAN]
  const { encoded } = await by.encodeTexts(texts)
  expect(encoded.map(({ encoder }) => encoder)).toEqual([1, 0, 1, 1, 0, 0, 1])
  for (const [at, text] of texts.entries()) {
    const expected = await embeddingOf(encoded[at]?.encoder === 0 ? first : second, text)
    const found = [...(encoded[at] as EncodedText).embedding]
    for (const [i, value] of expected.entries()) expect(found[i]).toBeCloseTo(value, 5)
  }
}

describe('a bundle with two text encoders', () => {
  it('encodes each text by the encoder for its language, in any mix', async () => {
    await expectByEncoders(models)
    expect(models.info).toMatchObject({
      languages: ['en', 'de', 'zh'],
      textEncoders: [{ languages: ['en'] }, { languages: ['de', 'zh'] }],
    })
  })

  it('does the same over the network', async () => {
    await expectByEncoders(remote)
    expect(remote.info.textEncoders).toEqual(models.info.textEncoders)
  })

  it.each([
    ['de', 1],
    ['de-AT', 1],
    ['en', 0],
    ['fr', 0],
  ])('takes the encoder of the language that the client names: %s', async (language, encoder) => {
    for (const by of [models, remote]) {
      const { encoded } = await by.encodeTexts(['dog', GERMAN, ENGLISH], { language })
      expect(encoded.map((text) => text.encoder)).toEqual([encoder, encoder, encoder])
      const dog = await embeddingOf(first, encoder === 0 ? 'dog' : 'sea')
      for (const [i, value] of dog.entries()) expect(encoded[0]?.embedding[i]).toBeCloseTo(value, 5)
    }
  })

  it('reads a short text by the encoder whose tokenizer knows its words', async () => {
    const texts = ['dogs', 'Dogs!', 'red dogs', 'red dog', 'sand', 'the dogs of the sea']
    for (const by of [models, remote]) {
      const { encoded } = await by.encodeTexts(texts)
      expect(encoded.map(({ encoder }) => encoder)).toEqual([1, 1, 1, 0, 0, 0])
    }
  })

  it('reads a text in a language of no encoder by the first one', async () => {
    const { encoded } = await models.encodeTexts(['un chien brun court dans l’herbe verte'])
    expect(encoded[0]?.encoder).toBe(0)
  })

  it('matches texts of the other encoder by its own rule, without the fusion encoder', async () => {
    const { count, width } = models.info.imageTokens
    const tokens = [new Int8Array(count * width).fill(7)]
    for (const by of [models, remote]) {
      const { encoded } = await by.encodeTexts([GERMAN, ENGLISH])
      const pairs = [1, 0].map((text) => ({ text, image: 0, similarity: 0.3 }))
      const { matches } = await by.match(encoded, tokens, pairs)
      const alone = await first.encodeTexts([ENGLISH])
      const fused = await first.match(alone.encoded, tokens, [
        { text: 0, image: 0, similarity: 0.3 },
      ])
      expect(matches[0]?.logit).toBeCloseTo(fused.matches[0]?.logit ?? NaN, 4)
      expect(matches[1]?.logit).toBeCloseTo(RULE.similarity * 0.3 + RULE.bias, 6)
    }
  })

  it('has another fingerprint than without the second one', async () => {
    const [one, two] = await Promise.all([fixture('tiny-bundle'), folder].map(openBundle))
    expect(two?.fingerprint).not.toBe(one?.fingerprint)
  })

  it('does not start if the second graph gives other embeddings than its goldens', async () => {
    const wrong = await bundleOfTwoLanguages((_, { texts }) => {
      for (const text of texts) if (text.encoder === 1) text.embedding.reverse()
    })
    folders.push(wrong)
    await expect(openModels({ folder: wrong, ...settings })).rejects.toThrow(
      /text embedding of the goldens is .* off/,
    )
  })

  it('does not start if the goldens have no text for the second graph', async () => {
    const silent = await bundleOfTwoLanguages((_, goldens) => {
      goldens.texts = goldens.texts.filter(({ encoder }) => encoder !== 1)
    })
    folders.push(silent)
    await expect(openModels({ folder: silent, ...settings })).rejects.toThrow(
      'The goldens have no text for the text encoder 1.',
    )
  })

  it('is refused if the manifest lists no tokenizer for the second encoder', async () => {
    const broken = await bundleOfTwoLanguages(({ other_text_encoders: [other] = [] }) => {
      Reflect.deleteProperty(other ?? {}, 'tokenizer')
    })
    folders.push(broken)
    await expect(openBundle(broken)).rejects.toThrow(
      /other_text_encoders\/0 must have required property 'tokenizer'/,
    )
  })
})
