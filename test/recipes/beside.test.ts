/** BLIP-ITM beside a CLIP, in the service: matches through HTTP are those of `transformers`. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { readConfig, type Config } from '../../src/config.js'
import { buildApp, type Tandem } from '../../src/http/app.js'
import { missingModules, runPython } from '../support/python.js'

vi.setConfig({ testTimeout: 120_000, hookTimeout: 180_000 })

const IDS = Array.from({ length: 8 }, (_, at) => `drawing-${at}`)
const TEXTS = ['a red square', 'TWO bars of the sea', 'sand']
/** Weights are stored in float16 and image tokens in int8. */
const TOLERANCE = 0.05

const missing = missingModules('torch', 'tokenizers', 'onnx', 'transformers')
const folder = mkdtempSync(join(tmpdir(), 'tandem-beside-'))

beforeAll(() => {
  if (missing === null)
    runPython(new URL('make-bundles.py', import.meta.url), null, [
      folder,
      'blip-stored',
      'blip-computed',
    ])
})
afterAll(() => {
  rmSync(folder, { recursive: true, force: true })
})

const configOf = (bundle: string): Config => ({
  ...readConfig({}),
  logLevel: 'silent',
  dataFolder: mkdtempSync(join(folder, 'data-')),
  modelFolder: join(folder, bundle),
  inferenceThreads: 1,
})

async function withService(bundle: string, use: (app: Tandem['app']) => Promise<void>) {
  const tandem = await buildApp(configOf(bundle))
  try {
    await tandem.start()
    for (const id of IDS) {
      const reply = await tandem.app.inject({
        method: 'PUT',
        url: `/items/${id}`,
        payload: await readFile(join(folder, `${id}.jpg`)),
        headers: { 'content-type': 'image/jpeg' },
      })
      expect(reply.statusCode).toBe(201)
    }
    await use(tandem.app)
  } finally {
    await tandem.close()
  }
}

/** Of the checkpoint, for each text and image file. */
function originalLogits(images: readonly string[]): number[][] {
  const checkpoint = join(folder, 'runs', 'blip')
  const given = { checkpoint, images, texts: TEXTS }
  return runPython(new URL('blip-logits.py', import.meta.url), given) as number[][]
}

interface Scored {
  readonly match: number
}

/** The match of this bundle is the probability of BLIP alone. */
const logitOf = ({ match }: Scored): number => Math.log(match / (1 - match))

async function expectLogits(app: Tandem['app'], expected: readonly number[][]): Promise<void> {
  for (const [row, text] of TEXTS.entries()) {
    const url = `/search?q=${encodeURIComponent(text)}&language=en&k=${IDS.length}&rerank=true`
    const { hits } = (await app.inject(url)).json<{ hits: (Scored & { id: string })[] }>()
    expect(hits).toHaveLength(IDS.length)
    for (const hit of hits) {
      const off = Math.abs(logitOf(hit) - (expected[row]?.[IDS.indexOf(hit.id)] ?? NaN))
      expect(off, `${text}, ${hit.id}`).toBeLessThan(TOLERANCE)
    }
    const found = hits.map(logitOf)
    expect(found).toEqual([...found].sort((a, b) => b - a))

    const payload = { query: text, language: 'en', documents: IDS.map((id) => ({ id })) }
    const reply = await app.inject({ method: 'POST', url: '/rerank', payload })
    expect(reply.statusCode, reply.body).toBe(200)
    const { results } = reply.json<{ results: (Scored & { index: number })[] }>()
    expect(results).toHaveLength(IDS.length)
    for (const result of results) {
      const off = Math.abs(logitOf(result) - (expected[row]?.[result.index] ?? NaN))
      expect(off, `${text}, document ${result.index}`).toBeLessThan(TOLERANCE)
    }
  }
}

it.skipIf(missing)(
  `stored image tokens give the logits of the original on the images as sent ${missing ?? ''}`,
  () =>
    withService('blip-stored', async (app) => {
      const expected = originalLogits(IDS.map((id) => join(folder, `${id}.jpg`)))
      expect(Math.max(...expected.flat()) - Math.min(...expected.flat())).toBeGreaterThan(1)
      await expectLogits(app, expected)
    }),
)

it.skipIf(missing)(
  `computed image tokens give the logits of the original on the stored images ${missing ?? ''}`,
  () =>
    withService('blip-computed', async (app) => {
      mkdirSync(join(folder, 'stored'))
      const stored: string[] = []
      for (const id of IDS) {
        const { rawPayload } = await app.inject(`/items/${id}/image`)
        const file = join(folder, 'stored', `${id}.jpg`)
        writeFileSync(file, rawPayload)
        stored.push(file)
      }
      await expectLogits(app, originalLogits(stored))
    }),
)

it.skipIf(missing)(
  `an image as a query or a document is compared by computed tokens ${missing ?? ''}`,
  () =>
    withService('blip-computed', async (app) => {
      const bytes = await readFile(join(folder, 'drawing-3.jpg'))
      const image = bytes.toString('base64')
      const rerank = async (payload: object): Promise<number[]> => {
        const reply = await app.inject({ method: 'POST', url: '/rerank', payload })
        expect(reply.statusCode, reply.body).toBe(200)
        const { results } = reply.json<{ results: (Scored & { index: number })[] }>()
        return results.sort((a, b) => a.index - b.index).map(logitOf)
      }
      const language = 'en'
      const byText = await Promise.all(
        TEXTS.map((query) =>
          rerank({ query, language, documents: [{ image }, { id: 'drawing-3' }] }),
        ),
      )
      const byImage = await rerank({ query: { image }, language, documents: TEXTS })
      const byId = await rerank({ query: { id: 'drawing-3' }, language, documents: TEXTS })
      byText.forEach(([sent, stored], row) => {
        expect(sent).toBeCloseTo(stored ?? NaN, 4)
        expect(sent).toBeCloseTo(byImage[row] ?? NaN, 4)
        expect(sent).toBeCloseTo(byId[row] ?? NaN, 4)
      })
    }),
)

it.skipIf(missing)(
  `an encoder for other services takes stored image tokens alone ${missing ?? ''}`,
  async () => {
    const refused = buildApp({ ...configOf('blip-computed'), role: 'encode' })
    await expect(refused).rejects.toThrow('expected a bundle that stores them')
    const tandem = await buildApp({ ...configOf('blip-stored'), role: 'encode' })
    await tandem.close()
  },
)
