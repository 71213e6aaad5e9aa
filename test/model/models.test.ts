/** Models with the tiny bundle: workers, batches and limits. */
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { openModels } from '../../src/model/open.js'
import type { EncodedText, Models } from '../../src/model/models.js'

vi.setConfig({ testTimeout: 60_000 })

const tiny = fileURLToPath(new URL('../fixtures/tiny-bundle', import.meta.url))
const options = { folder: tiny, inferenceThreads: 1, maxImagePixels: 1_000_000 }
const texts = [
  'red',
  'a photo of the dark blue sea, sand.',
  '',
  'dogs',
  'the bright green sea!',
  'a dog of red sand',
]

let models: Models

beforeAll(async () => {
  models = await openModels(options)
})

afterAll(async () => {
  await models.close()
})

function plainImage(r: number, g: number, b: number): Promise<Buffer> {
  return sharp({ create: { width: 40, height: 30, channels: 3, background: { r, g, b } } })
    .png()
    .toBuffer()
}

function expectClose(found: ArrayLike<number>, expected: ArrayLike<number>): void {
  expect(found.length).toBe(expected.length)
  for (let i = 0; i < found.length; i += 1) expect(found[i]).toBeCloseTo(expected[i] as number, 5)
}

async function one(text: string): Promise<EncodedText> {
  return (await models.encodeTexts([text])).encoded[0] as EncodedText
}

describe('texts', () => {
  it('get the same embedding and tokens in a batch as alone, in the order given', async () => {
    const { encoded, timings } = await models.encodeTexts(texts)
    expect(encoded).toHaveLength(texts.length)
    for (const [i, text] of texts.entries()) {
      const alone = await one(text)
      expectClose(encoded[i]?.embedding ?? [], alone.embedding)
      expectClose(encoded[i]?.textTokens ?? [], alone.textTokens)
      expect(encoded[i]?.tokenCount).toBe(alone.tokenCount)
    }
    expect(Object.keys(timings).sort()).toEqual(['inference', 'queue', 'tokenize'])
  })

  it('have unit length, and as many tokens as were counted', async () => {
    const { tokenCount, textTokens, embedding } = await one('dogs')
    expect(tokenCount).toBe(4)
    expect(textTokens).toHaveLength(4 * models.info.tokenWidth)
    expect(Math.hypot(...embedding)).toBeCloseTo(1, 5)
  })

  it('are cut after the last token that fits', async () => {
    expect((await one('sea '.repeat(500))).tokenCount).toBe(models.info.maxTokens)
  })

  it('may be many', async () => {
    const many = Array.from({ length: 150 }, (_, i) => texts[i % texts.length] as string)
    const { encoded } = await models.encodeTexts(many)
    expectClose(encoded[144]?.embedding ?? [], encoded[0]?.embedding ?? [1])
    expect(await models.encodeTexts([])).toMatchObject({ encoded: [] })
  })
})

describe('images', () => {
  it('get the same embedding and tokens in a batch as alone, in the order given', async () => {
    const images = await Promise.all([
      plainImage(250, 0, 0),
      plainImage(0, 240, 0),
      plainImage(0, 10, 230),
      plainImage(99, 98, 97),
    ])
    const { encoded } = await models.encodeImages(images)
    for (const [i, bytes] of images.entries()) {
      const alone = (await models.encodeImages([bytes])).encoded[0]
      expectClose(encoded[i]?.embedding ?? [], alone?.embedding ?? [1])
      expect(encoded[i]?.imageTokens).toEqual(alone?.imageTokens)
      expect(encoded[i]?.imageTokens).toHaveLength(
        models.info.imageTokens.count * models.info.imageTokens.width,
      )
    }
  })

  it('say which of several is bad', async () => {
    const good = await plainImage(1, 2, 3)
    const refusal = models.encodeImages([good, Buffer.from('no image at all'), good])
    await expect(refusal).rejects.toMatchObject({ code: 'image_type_unsupported' })
    await expect(refusal).rejects.toThrow(/^Image 2 of 3: /)
    await expect(models.encodeImages([new Uint8Array(0)])).rejects.toThrow(
      /^The image has no bytes/,
    )
  })
})

describe('match', () => {
  it('matches each pair of a batch as it does alone, in order, by the rule of the manifest', async () => {
    const { encoded } = await models.encodeTexts(texts)
    const images = await models.encodeImages(
      await Promise.all([plainImage(250, 0, 0), plainImage(0, 10, 230)]),
    )
    const tokens = images.encoded.map(({ imageTokens }) => imageTokens)
    // More pairs than one batch takes, texts and images mixed.
    const pairs = Array.from({ length: 150 }, (_, i) => ({
      text: (i * 5) % texts.length,
      image: i % 2,
      similarity: Math.sin(i),
    }))
    const { matches } = await models.match(encoded, tokens, pairs)
    expect(matches).toHaveLength(150)
    const {
      logit: w,
      similarity: s,
      bias,
    } = (
      JSON.parse(await readFile(`${tiny}/manifest.json`, 'utf8')) as {
        match: Record<'logit' | 'similarity' | 'bias', number>
      }
    ).match
    for (const i of [0, 1, 2, 3, 77, 149]) {
      const pair = pairs[i] as (typeof pairs)[number]
      const text = encoded[pair.text] as EncodedText
      const image = tokens[pair.image] as Int8Array
      const [alone] = (
        await models.match([text], [image], [{ text: 0, image: 0, similarity: pair.similarity }])
      ).matches
      const [neutral] = (
        await models.match([text], [image], [{ text: 0, image: 0, similarity: 0 }])
      ).matches
      expect(matches[i]?.logit).toBeCloseTo(alone?.logit as number, 4)
      const itm = ((neutral?.logit as number) - bias) / w
      expect(alone?.logit).toBeCloseTo(w * itm + s * pair.similarity + bias, 5)
      expect(matches[i]?.match).toBeCloseTo(1 / (1 + Math.exp(-(alone?.logit as number))), 5)
    }
  })

  it('returns no matches for no pairs, and refuses a pair with a row that does not exist', async () => {
    const text = await one('red')
    expect((await models.match([text], [], [])).matches).toEqual([])
    await expect(models.match([text], [], [{ text: 0, image: 3, similarity: 0 }])).rejects.toThrow(
      /row 3/,
    )
  })
})

describe('a dual encoder alone', () => {
  let dual: Models

  beforeAll(async () => {
    dual = await openModels({
      ...options,
      folder: fileURLToPath(new URL('../fixtures/tiny-dual-bundle', import.meta.url)),
    })
  })

  afterAll(async () => {
    await dual.close()
  })

  it('gives the embeddings of its towers, and no tokens', async () => {
    expect(dual.info).toMatchObject({
      imageTokens: { count: 0, width: 0 },
      tokenWidth: 0,
      rerank: { default: false },
    })
    const { encoded } = await dual.encodeTexts(texts)
    for (const [i, text] of texts.entries()) {
      expectClose(encoded[i]?.embedding ?? [], (await one(text)).embedding)
      expect(encoded[i]?.textTokens).toHaveLength(0)
    }
    const bytes = await plainImage(0, 10, 230)
    const [image] = (await dual.encodeImages([bytes])).encoded
    expectClose(
      image?.embedding ?? [],
      (await models.encodeImages([bytes])).encoded[0]?.embedding ?? [1],
    )
    expect(image?.imageTokens).toHaveLength(0)
  })

  it('matches by similarity: interpolated between the calibration knots, constant beyond them', async () => {
    const text = (await dual.encodeTexts(['red'])).encoded
    // 2 · similarity - 0.5, on a line through (-2, 0.1), (0, 0.3) and (2, 0.9).
    const pairs = [-1, -0.25, 0.25, 0.5, 1].map((similarity) => ({ text: 0, image: 0, similarity }))
    const { matches } = await dual.match(text, [new Int8Array()], pairs)
    expectClose(
      matches.map(({ logit }) => logit),
      [-2.5, -1, 0, 0.5, 1.5],
    )
    expectClose(
      matches.map(({ match }) => match),
      [0.1, 0.2, 0.3, 0.45, 0.75],
    )
  })
})

describe('callers', () => {
  it('may be many at a time; each gets its own answer', async () => {
    const alone = await Promise.all(texts.map(one))
    const answers = await Promise.all(
      Array.from({ length: 60 }, (_, i) => models.encodeTexts([texts[i % texts.length] as string])),
    )
    answers.forEach(({ encoded }, i) =>
      expectClose(encoded[0]?.embedding ?? [], alone[i % texts.length]?.embedding ?? [1]),
    )
    expect(models.stats()).toMatchObject({ queueDepth: 0, inFlight: 0 })
  })

  it('may give up before anything runs', async () => {
    const reason = new Error('the client has gone')
    await expect(models.encodeTexts(['red'], { signal: AbortSignal.abort(reason) })).rejects.toBe(
      reason,
    )
    await expect(
      models.encodeImages([await plainImage(1, 2, 3)], { signal: AbortSignal.abort(reason) }),
    ).rejects.toBe(reason)
  })

  it('are refused when more wait than may', async () => {
    const narrow = await openModels({ ...options, maxQueue: 3 })
    try {
      await expect(narrow.encodeTexts(['red', 'green', 'blue', 'sea'])).rejects.toMatchObject({
        code: 'overloaded',
      })
      expect((await narrow.encodeTexts(['red', 'green'])).encoded).toHaveLength(2)
    } finally {
      await narrow.close()
    }
  })

  it('that still wait at the close are told so, and later ones too', async () => {
    const closing = await openModels(options)
    const pending = Array.from({ length: 5 }, () => closing.encodeTexts(['red']))
    const outcomes = Promise.allSettled(pending)
    await closing.close()
    for (const outcome of await outcomes) {
      if (outcome.status === 'rejected')
        expect(outcome.reason).toMatchObject({ code: 'model_unavailable' })
    }
    expect((await outcomes).some(({ status }) => status === 'rejected')).toBe(true)
    await expect(closing.encodeTexts(['red'])).rejects.toMatchObject({ code: 'model_unavailable' })
  })
})
