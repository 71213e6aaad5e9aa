/** Searches and embeddings with a bundle that has a text encoder for each of two languages. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { readConfig } from '../../../src/config.js'
import { buildApp, type Tandem } from '../../../src/http/app.js'
import { bundleOfTwoLanguages, RULE } from '../../support/two-languages.js'

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

const GERMAN = 'ein brauner Hund läuft über die grüne Wiese'
const ENGLISH = 'a brown dog runs across the grass'
let folders: string[]
let tandem: Tandem

beforeAll(async () => {
  folders = [await bundleOfTwoLanguages(), await mkdtemp(join(tmpdir(), 'tandem-'))]
  const [modelFolder = '', dataFolder = ''] = folders
  const config = { ...readConfig({}), logLevel: 'silent', inferenceThreads: 1 } as const
  tandem = await buildApp({ ...config, modelFolder, dataFolder })
  await tandem.start()
  const image = await sharp({
    create: { width: 40, height: 30, channels: 3, background: '#a52' },
  })
    .jpeg()
    .toBuffer()
  await tandem.app.inject({
    method: 'PUT',
    url: '/items/dog',
    headers: { 'content-type': 'image/jpeg' },
    payload: image,
  })
})

afterAll(async () => {
  await tandem.close()
  for (const folder of folders) await rm(folder, { recursive: true, force: true })
})

interface Found {
  hits: { similarity: number; match: number }[]
  notices: unknown[]
  text_encoder?: { languages: string[] }
}

async function search(body: object): Promise<Found> {
  const reply = await tandem.app.inject({ method: 'POST', url: '/search', payload: body })
  expect(reply.statusCode).toBe(200)
  return reply.json<Found>()
}

it('names the text encoder that read the query', async () => {
  expect((await search({ text: ENGLISH })).text_encoder).toEqual({ languages: ['en'] })
  const german = await search({ text: GERMAN })
  expect(german.text_encoder).toEqual({ languages: ['de', 'zh'] })
  expect(german.notices).toEqual([])
  expect((await search({ text: ENGLISH, language: 'de' })).text_encoder).toEqual({
    languages: ['de', 'zh'],
  })
  expect(await search({ id: 'dog' })).not.toHaveProperty('text_encoder')
})

it('gives the match by the rule of that encoder', async () => {
  const [hit] = (await search({ text: GERMAN })).hits
  const argument = RULE.similarity * (hit?.similarity ?? NaN) + RULE.bias
  expect(hit?.match).toBeCloseTo(1 / (1 + Math.exp(-argument)), 5)
})

it('says of a text in a third language which languages the bundle understands', async () => {
  const french = await search({ text: 'un chien brun court dans l’herbe verte' })
  expect(french.hits[0]?.match).toBeNull()
  expect(french.notices).toMatchObject([
    { detail: expect.stringContaining('English (en), German (de), Chinese (zh)') as string },
  ])
})

it('embeds texts by the language that the request names, in a body and in a form', async () => {
  const embeddingOf = async (body: object): Promise<number[]> => {
    const reply = await tandem.app.inject({ method: 'POST', url: '/embed', payload: body })
    return reply.json<{ embeddings: { embedding: number[] }[] }>().embeddings[0]?.embedding ?? []
  }
  const inputs = [{ text: 'dog' }]
  const [english, german] = [
    await embeddingOf({ inputs }),
    await embeddingOf({ inputs, language: 'de' }),
  ]
  expect(german).not.toEqual(english)
  const form = new FormData()
  form.append('text', 'dog')
  form.append('language', 'de')
  const encoded = new Response(form)
  const reply = await tandem.app.inject({
    method: 'POST',
    url: '/embed',
    headers: { 'content-type': encoded.headers.get('content-type') ?? '' },
    payload: Buffer.from(await encoded.arrayBuffer()),
  })
  expect(reply.json()).toMatchObject({ embeddings: [{ embedding: german }] })
})
