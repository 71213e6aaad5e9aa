import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import type { Client } from '../../src/cli/client.js'
import type { CaptionedImage } from '../../src/cli/captions/dataset.js'
import { evaluate, evaluationTable } from '../../src/cli/evaluate.js'

const quiet = { out: new PassThrough(), err: new PassThrough() }
const unit = (at: number): Float32Array =>
  Float32Array.from({ length: 4 }, (_, index) => (index === at ? 1 : 0))

const images: CaptionedImage[] = ['a', 'b', 'c', 'd'].map((key) => ({
  key,
  image: Buffer.from(key),
  mime: 'image/jpeg',
  captions: [`${key} first`, `${key} second`],
}))
const keys = images.map(({ key }) => key)

/** A service whose similarity mistakes a for b and b for a, and whose rerank makes no mistake. */
class MistakenService {
  readonly stored: string[] = []
  readonly #others: string[]
  constructor(others: string[] = []) {
    this.#others = others
  }

  // eslint-disable-next-line @typescript-eslint/require-await
  async *items(): AsyncGenerator<{ id: string }> {
    for (const id of this.#others) yield { id }
  }

  bundleName(): Promise<string> {
    return Promise.resolve('mistaken')
  }

  put(id: string): Promise<void> {
    this.stored.push(id)
    return Promise.resolve()
  }

  search(sentence: string, { rerank }: { rerank: boolean }): Promise<{ hits: { id: string }[] }> {
    const key = sentence.slice(0, 1)
    const seen = rerank ? key : ({ a: 'b', b: 'a' }[key] ?? key)
    return Promise.resolve({
      hits: [seen, ...keys.filter((other) => other !== seen)].map((id) => ({ id })),
    })
  }

  embed(inputs: readonly { text?: string; image?: string }[]): Promise<Float32Array[]> {
    return Promise.resolve(
      inputs.map(({ text, image }) => {
        if (image !== undefined) return unit(keys.indexOf(Buffer.from(image, 'base64').toString()))
        const key = text?.slice(0, 1) ?? ''
        return unit(keys.indexOf({ a: 'b', b: 'a' }[key] ?? key))
      }),
    )
  }

  rerankTexts(id: string, texts: readonly string[]): Promise<number[]> {
    const order = [...texts.keys()]
    return Promise.resolve(
      order.sort((x, y) => Number(texts[y]?.startsWith(id)) - Number(texts[x]?.startsWith(id))),
    )
  }
}

const asClient = (service: MistakenService): Client => service as unknown as Client

describe('evaluate', () => {
  it('stores and measures every image of equal keys', async () => {
    const service = new MistakenService()
    const keyed = images.map((image, at) => ({ ...image, key: ['a', 'a', 'a~2', 'a'][at] ?? '' }))
    const options = { candidates: 8, rerank: false, imageToText: false, language: 'en' }
    const result = await evaluate(asClient(service), keyed, options, quiet)
    expect(service.stored.sort()).toEqual(['a', 'a~2', 'a~3', 'a~4'])
    expect(result).toMatchObject({ images: 4, captions: 8 })
  })

  it('measures both directions, by similarity and with rerank', async () => {
    const service = new MistakenService()
    const result = await evaluate(
      asClient(service),
      images,
      { candidates: 8, rerank: true, imageToText: true, language: 'en' },
      quiet,
    )
    expect(service.stored.sort()).toEqual(keys)
    expect(result).toMatchObject({ bundle: 'mistaken', images: 4, captions: 8, candidates: 8 })
    expect(result.text_to_image.similarity).toEqual({ r1: 50, r5: 100, r10: 100 })
    expect(result.text_to_image.rerank).toEqual({ r1: 100, r5: 100, r10: 100 })
    expect(result.image_to_text?.similarity.r1).toBe(50)
    expect(result.image_to_text?.rerank?.r1).toBe(100)
    expect(evaluationTable(result)).toMatch(/text→image, rerank of 8 +100\.0 +100\.0 +100\.0/)
  })

  it('measures only sentence → image without imageToText', async () => {
    const options = { candidates: 8, rerank: true, imageToText: false, language: 'en' }
    const result = await evaluate(asClient(new MistakenService()), images, options, quiet)
    expect(result.image_to_text).toBeUndefined()
    expect(evaluationTable(result)).not.toContain('image→text')
  })

  it('measures only similarity without rerank', async () => {
    const result = await evaluate(
      asClient(new MistakenService()),
      images,
      { candidates: 8, rerank: false, imageToText: true, language: 'en' },
      quiet,
    )
    expect(result.text_to_image.rerank).toBeUndefined()
    expect(evaluationTable(result)).not.toContain('rerank')
  })

  it('refuses a service that stores other items, which would take ranks', async () => {
    const service = new MistakenService(['a', 'other'])
    await expect(
      evaluate(
        asClient(service),
        images,
        { candidates: 8, rerank: true, imageToText: true, language: 'en' },
        quiet,
      ),
    ).rejects.toThrow(/"other"/)
    expect(service.stored).toEqual([])
  })
})
