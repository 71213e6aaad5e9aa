/**
 * The requests of real clients as they were recorded, answered with every field without which the
 * client failed. The recordings lie beside the repository; without them the test is skipped.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageFolder } from '../../../src/config.js'
import { startTestService, type TestService } from '../../support/test-service.js'

interface Recording {
  client: string
  call: string
  exchanges: {
    request: {
      method: string
      path: string
      headers?: Record<string, string>
      body?: unknown
    }
  }[]
  response_fields_needed: { removed: string; outcome: string }[]
}

const folder = join(packageFolder, '..', 'shared', 'clients')
const recordings = existsSync(folder)
  ? readdirSync(folder)
      .filter((name) => name.endsWith('.json') && !/^(mcp|clip-front)/.test(name))
      .map((name) => [name, JSON.parse(readFileSync(join(folder, name), 'utf8')) as Recording])
  : []
/** Refused by design: token ids, other models, other lengths, and embeddings as a query. */
const REFUSED: Readonly<Record<string, RegExp>> = {
  'openai-python-embeddings-tokens.json': /token ids/,
  'langchain-python-openai-embeddings-default-tokens.json': /token ids/,
  'openai-npm-error.json': /The model is "m"/,
  'openai-npm-error-problem-json.json': /The model is "m"/,
  'openai-npm-retry.json': /The model is "m"/,
  'openai-npm-embeddings-float.json': /dimensions is 256/,
  'openai-python-embeddings-list.json': /dimensions is 256/,
  'cohere-npm-v2-embed-inputs.json': /output_dimension is 256/,
  'clip-retrieval-embedding.json': /embedding_input is not supported/,
  'clip-retrieval-image-url.json': /image_url/,
}

/** The recordings cut long strings, which are images, and name another bundle. */
function whole(value: unknown): unknown {
  if (typeof value === 'string') {
    if (value === 'tandem-small') return 'words'
    if (!/…\(\d+ characters\)$/.test(value)) return value
    const image = Buffer.from('dog 3').toString('base64')
    return value.startsWith('data:') ? `data:image/jpeg;base64,${image}` : image
  }
  if (Array.isArray(value)) return value.map(whole)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, whole(inner)]))
}

/** Whether the path of a recording, such as `data.*.index`, leads to a value. */
function has(value: unknown, [name, ...rest]: readonly string[]): boolean {
  if (name === undefined) return value !== undefined
  if (name === '*') return Array.isArray(value) && value.every((entry) => has(entry, rest))
  return has((value as Record<string, unknown> | undefined)?.[name], rest)
}

describe.skipIf(recordings.length === 0)(
  'recorded requests (need ../shared/clients beside the repository)',
  () => {
    let tandem: TestService
    beforeAll(async () => {
      tandem = await startTestService()
      await tandem.retrieval.add({ id: 'dog', image: Buffer.from('dog 3'), payload: null })
    })
    afterAll(() => tandem.end())

    it.each(recordings)('of %s are answered', async (name, recording) => {
      const { exchanges, response_fields_needed: needed } = recording as Recording
      for (const { request } of exchanges) {
        const { method, path, body, headers = {} } = request
        const type = headers['content-type']
        const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(whole(body)))
        const url = path.replace('tandem-small', 'words')
        const reply = await tandem.app.inject({
          ...{ method: method as 'POST', url },
          ...(type === undefined ? {} : { headers: { 'content-type': type } }),
          ...(payload === undefined ? {} : { payload }),
        })
        const refusal = REFUSED[name as string]
        if (refusal !== undefined) {
          expect(reply.json<{ detail: string }>().detail).toMatch(refusal)
          continue
        }
        expect(reply.statusCode, reply.body).toBeLessThan(300)
        for (const { removed } of needed.filter(({ outcome }) => outcome.startsWith('FAILS')))
          expect(has(reply.json(), removed.split('.')), removed).toBe(true)
      }
    })
  },
)
