/**
 * Bundles of recipes in the service: a search through HTTP ranks as `evaluate` does. One recipe for
 * each way to serve; `npm run recipes` takes all of them, `RECIPES=clip,albef` those.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { packageFolder, readConfig } from '../../src/config.js'
import { buildApp } from '../../src/http/app.js'
import { missingModules, runPython } from '../support/python.js'

const PER_GROUP_MS = 10 * 60_000
const SHORT = ['clip', 'albef', 'vilt', 'simvlm'] // E, R, R+, L
const recipesFolder = join(packageFolder, 'training', 'recipes')

/** The recipes that stand for a system. */
function systems(): string[] {
  return readdirSync(recipesFolder, { encoding: 'utf8', recursive: true })
    .filter((name) => name.endsWith('.toml'))
    .filter((name) => readFileSync(join(recipesFolder, name), 'utf8').includes('\n[system]'))
    .map((name) => basename(name, '.toml'))
    .sort()
}

/** Recipes whose bundles one process makes: the short list together, others each by itself. */
function groups(): string[][] {
  const asked = process.env.RECIPES
  if (asked === undefined) return [SHORT]
  return (asked === 'all' ? systems() : asked.split(',')).map((name) => [name])
}

interface Query {
  readonly text: string
  readonly similarity: Readonly<Record<string, number>>
  readonly match: Readonly<Record<string, number>> | null
}
type Report = Record<string, { serve: string; queries: Query[] }>
interface Hit {
  readonly id: string
  readonly similarity: number
  readonly match: number | null
}

const missing = missingModules('torch', 'tokenizers', 'onnx')
const folder = mkdtempSync(join(tmpdir(), 'tandem-recipes-'))

afterAll(() => {
  rmSync(folder, { recursive: true, force: true })
})

/** In the order of `expected`, where values closer than `tolerance` may swap. */
function expectRanked(
  hits: readonly Hit[],
  expected: Readonly<Record<string, number>>,
  tolerance: number,
): void {
  const best = Object.values(expected).sort((a, b) => b - a)
  expect(hits).toHaveLength(best.length)
  for (const [place, { id }] of hits.entries()) {
    expect(Math.abs((expected[id] ?? NaN) - (best[place] ?? NaN)), id).toBeLessThan(tolerance)
  }
}

async function expectServed(recipe: string, queries: readonly Query[]): Promise<void> {
  const tandem = await buildApp({
    ...readConfig({}),
    logLevel: 'silent',
    dataFolder: join(folder, `${recipe}-data`),
    modelFolder: join(folder, recipe),
    inferenceThreads: 1,
  })
  try {
    await tandem.start()
    for (const id of Object.keys(queries[0]?.similarity ?? {})) {
      const payload = await readFile(join(folder, `${id}.jpg`))
      const headers = { 'content-type': 'image/jpeg' }
      const { statusCode } = await tandem.app.inject({
        method: 'PUT',
        url: `/items/${id}`,
        payload,
        headers,
      })
      expect(statusCode).toBe(201)
    }
    const search = async (text: string, rerank: boolean): Promise<Hit[]> => {
      const url = `/search?q=${encodeURIComponent(text)}&language=en&k=8&rerank=${rerank}`
      const reply = await tandem.app.inject(url)
      expect(reply.statusCode, `${recipe}: ${reply.body}`).toBe(200)
      return reply.json<{ hits: Hit[] }>().hits
    }
    for (const { text, similarity, match } of queries) {
      const plain = await search(text, false)
      expectRanked(plain, similarity, 2e-3)
      for (const hit of plain) expect(hit.similarity).toBeCloseTo(similarity[hit.id] ?? NaN, 2)
      const reranked = await search(text, true)
      if (match === null) {
        expect(reranked.map(({ id }) => id)).toEqual(plain.map(({ id }) => id))
        continue
      }
      expectRanked(reranked, match, 1e-2)
      for (const hit of reranked) {
        expect(hit.match).toBeCloseTo(1 / (1 + Math.exp(-(match[hit.id] ?? NaN))), 2)
      }
    }
  } finally {
    await tandem.close()
  }
}

it.skipIf(missing).each(groups())(
  `the service loads the bundle of %s and ranks as evaluate does ${missing ?? ''}`,
  async (...names) => {
    const script = new URL('make-bundles.py', import.meta.url)
    const report = runPython(script, null, [folder, ...names]) as Report
    expect(Object.keys(report)).toEqual(names)
    for (const [recipe, { serve, queries }] of Object.entries(report)) {
      expect(queries).toHaveLength(16)
      expect(queries.every(({ match }) => (match === null) === (serve === 'E'))).toBe(true)
      await expectServed(recipe, queries)
    }
  },
  PER_GROUP_MS,
)

const missingImports = missing ?? missingModules('transformers')

it.skipIf(missingImports)(
  `a fusion encoder trained on an imported CLIP reranks as evaluate does ${missingImports ?? ''}`,
  async () => {
    const script = new URL('make-bundles.py', import.meta.url)
    const report = runPython(script, null, [folder, 'fusion-on-clip']) as Report
    const queries = report['fusion-on-clip']?.queries ?? []
    expect(queries).toHaveLength(16)
    expect(queries.every(({ match }) => match !== null)).toBe(true)
    await expectServed('fusion-on-clip', queries)
  },
  PER_GROUP_MS,
)
