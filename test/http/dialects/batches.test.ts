/** Any batch of any dialect gives the vectors that its inputs get one by one, by real models. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageFolder, readConfig } from '../../../src/config.js'
import { buildApp, type Tandem } from '../../../src/http/app.js'

type Part = { text: string } | { image: string }
interface Dialect {
  url: string
  /** The body; null where the dialect has no body for these inputs. */
  body: (inputs: readonly Part[]) => object | null
  vectors: (reply: never) => unknown[]
}

const TEXTS = ['a dog', 'two children play with a red ball on the beach', 'a', 'ein Hund im Schnee']
const COLOURS = ['#c03020', '#20a040', '#3050c0']

let tandem: Tandem
let folder: string
let pool: Part[]
/** By /embed, one by one. */
let alone: Float32Array[]

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-batches-'))
  tandem = await buildApp({
    ...readConfig({}),
    ...{ logLevel: 'silent', dataFolder: folder, inferenceThreads: 1, vectorIndex: 'exact' },
    modelFolder: join(packageFolder, 'test/fixtures/tiny-bundle'),
  })
  await tandem.start()
  const images = COLOURS.map(async (background, at) => {
    const create = { width: 40 + 30 * at, height: 30, channels: 3, background } as const
    return { image: (await sharp({ create }).png().toBuffer()).toString('base64') }
  })
  pool = [...TEXTS.map((text) => ({ text })), ...(await Promise.all(images))]
  alone = []
  for (const input of pool) {
    const reply = await post('/embed', { inputs: [input] })
    const [first] = (reply as { embeddings: { embedding: number[] }[] }).embeddings
    alone.push(Float32Array.from(first?.embedding ?? []))
  }
})
afterAll(async () => {
  await tandem.close()
  await rm(folder, { recursive: true, force: true })
})

async function post(url: string, payload: object): Promise<unknown> {
  const reply = await tandem.app.inject({ method: 'POST', url, payload })
  expect(reply.statusCode, reply.body).toBe(200)
  return reply.json()
}

const uri = (image: string): string => `data:image/png;base64,${image}`
const strings = (inputs: readonly Part[]): string[] =>
  inputs.map((input) => ('text' in input ? input.text : uri(input.image)))
const parts = (inputs: readonly Part[]): object[] =>
  inputs.map((input) => ({
    content: [
      'text' in input
        ? { type: 'text', text: input.text }
        : { type: 'image_url', image_url: { url: uri(input.image) } },
    ],
  }))
const listed = ({ data }: { data: { embedding: unknown }[] }): unknown[] =>
  data.map(({ embedding }) => embedding)

const dialects: Dialect[] = [
  {
    url: '/v1/embeddings',
    body: (inputs) => ({ input: strings(inputs), encoding_format: 'base64' }),
    vectors: listed,
  },
  { url: '/embeddings', body: (inputs) => ({ input: inputs }), vectors: listed },
  {
    url: '/embed',
    body: (inputs) => ({ inputs: strings(inputs) }),
    vectors: (rows: unknown[]) => rows,
  },
  {
    url: '/v2/embed',
    body: (inputs) => ({ inputs: parts(inputs) }),
    vectors: ({ embeddings }: { embeddings: { float: unknown[] } }) => embeddings.float,
  },
  {
    url: '/v1/embed',
    body: (inputs) =>
      inputs.every((input) => 'text' in input) ? { texts: strings(inputs) } : null,
    vectors: ({ embeddings }: { embeddings: unknown[] }) => embeddings,
  },
  {
    url: '/v1/multimodalembeddings',
    body: (inputs) => ({ inputs: parts(inputs) }),
    vectors: listed,
  },
]

function valuesOf(vector: unknown): Float32Array {
  if (typeof vector !== 'string') return Float32Array.from(vector as number[])
  return new Float32Array(new Uint8Array(Buffer.from(vector, 'base64')).buffer)
}

function expectAlone(vectors: readonly unknown[], rows: readonly number[]): void {
  expect(vectors).toHaveLength(rows.length)
  vectors.forEach((vector, at) => {
    const expected = alone[rows[at] as number] as Float32Array
    const values = valuesOf(vector)
    expect(values).toHaveLength(expected.length)
    values.forEach((value, index) => expect(value).toBeCloseTo(expected[index] ?? NaN, 5))
  })
}

describe('a batch of texts and images in any order', { timeout: 120_000 }, () => {
  const rows = fc.array(fc.nat(TEXTS.length + COLOURS.length - 1), { minLength: 1, maxLength: 8 })

  it.each(dialects)('has the vectors of its inputs one by one at $url', async (dialect) => {
    await fc.assert(
      fc.asyncProperty(rows, async (drawn) => {
        const body = dialect.body(drawn.map((row) => pool[row] as Part))
        if (body === null) return
        expectAlone(dialect.vectors((await post(dialect.url, body)) as never), drawn)
      }),
      { numRuns: 12 },
    )
  })

  it('has the vectors of its inputs one by one at /vectorize', async () => {
    await fc.assert(
      fc.asyncProperty(rows, async (drawn) => {
        const texts = drawn.filter((row) => row < TEXTS.length)
        const images = drawn.filter((row) => row >= TEXTS.length)
        const body = {
          texts: texts.map((row) => TEXTS[row]),
          images: images.map((row) => (pool[row] as { image: string }).image),
        }
        const reply = (await post('/vectorize', body)) as Record<string, unknown[]>
        expectAlone(reply['textVectors'] ?? [], texts)
        expectAlone(reply['imageVectors'] ?? [], images)
      }),
      { numRuns: 12 },
    )
  })

  it('has the vectors of /embed to the bit for the same batch', async () => {
    const own = (await post('/embed', { inputs: pool })) as {
      embeddings: { embedding: number[] }[]
    }
    const expected = own.embeddings.map(({ embedding }) => Float32Array.from(embedding))
    for (const { url, body, vectors } of dialects) {
      const given = body(pool)
      if (given === null) continue
      expect(vectors((await post(url, given)) as never).map(valuesOf), url).toEqual(expected)
    }
  })
})
