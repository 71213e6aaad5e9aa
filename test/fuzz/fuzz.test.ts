/** A short run of the fuzzer (`npm run fuzz` is the long one), its findings, and its detection. */
import { describe, expect, it } from 'vitest'
import { runCampaign, type Case } from './campaign.js'
import type { Reply } from './connection.js'
import { keptCases } from './corpus.js'
import { Judge } from './judge.js'
import { layoutOf } from './layout.js'
import { mutatedImages } from './images.js'
import { mutatedRequests, operations } from './requests.js'
import { kinds, seedsOf } from './seeds.js'
import { startTestService } from '../support/test-service.js'

const seed = Date.now() % 1_000_000

describe('the fuzzed service', { timeout: 300_000 }, () => {
  it('survives 600 mutated images and answers each correctly', async () => {
    console.info(`seed of the mutated images: ${seed}`)
    const { sent, findings, deaths, byStatus } = await runCampaign(
      await mutatedImages(600, seed),
      600,
    )
    expect(
      findings.map(({ fault }) => fault),
      `seed ${seed}`,
    ).toEqual([])
    expect({ sent, deaths }).toEqual({ sent: 600, deaths: 0 })
    // A mutant refused as too busy tests nothing.
    expect(byStatus.has(503)).toBe(false)
    // Mutants that are all refused or all accepted test nothing.
    expect(byStatus.get(200)).toBeGreaterThan(60)
    expect(byStatus.get(422)).toBeGreaterThan(60)
  })

  it('survives 1,000 mutated requests and answers each correctly', async () => {
    console.info(`seed of the mutated requests: ${seed}`)
    const { sent, findings, deaths, byStatus } = await runCampaign(
      mutatedRequests(1000, seed),
      1000,
    )
    expect(
      findings.map(({ fault, message }) => [fault, message.toString('latin1', 0, 300)]),
      `seed ${seed}`,
    ).toEqual([])
    expect({ sent, deaths }).toEqual({ sent: 1000, deaths: 0 })
    for (const status of [200, 400, 404, 422]) expect(byStatus.get(status)).toBeGreaterThan(30)
  })

  it('answers the messages of the corpus correctly', async () => {
    const cases = keptCases()
    expect(cases.length).toBeGreaterThan(0)
    const { findings } = await runCampaign(cases, cases.length)
    expect(findings.map(({ name, fault }) => `${name}: ${fault}`)).toEqual([])
  })

  it('a message that kills it is found among those in flight, and the rest is sent to a new one', async () => {
    const harmless: Case = {
      kind: 'harmless',
      message: Buffer.from('GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n'),
      isWhole: true,
    }
    const poison = {
      ...harmless,
      kind: 'poison',
      message: Buffer.from('GET /health/live HTTP/1.1\r\nhost: localhost\r\nx-poison: 1\r\n\r\n'),
    }
    const cases = Array.from({ length: 100 }, (_, at) => ({ ...(at === 50 ? poison : harmless) }))
    const { deaths, findings, sent } = await runCampaign(cases, cases.length)
    expect({ deaths, sent }).toEqual({ deaths: 1, sent: 100 })
    expect(findings).toMatchObject([
      { fault: expect.stringContaining('SIGSEGV') as string, message: poison.message },
    ])
  })
})

it('every operation of the OpenAPI document is fuzzed', async () => {
  const tandem = await startTestService()
  const { paths } = (await tandem.app.inject('/openapi.json')).json<{
    paths: Record<string, object>
  }>()
  await tandem.end()
  const documented = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  )
  expect(operations.map(({ method, path }) => `${method} ${path}`).sort()).toEqual(
    documented.sort(),
  )
})

it.each(kinds)('the parts and numbers of each %s seed are located', async (kind) => {
  for (const bytes of await seedsOf(kind)) {
    const { parts, fields } = layoutOf(bytes)
    expect(fields.length).toBeGreaterThan(5)
    for (const { from, to } of parts) expect(to).toBeGreaterThan(from)
    expect(Math.max(...parts.map(({ to }) => to))).toBeLessThanOrEqual(bytes.length)
  }
})

describe('the judge of answers', () => {
  const judge = new Judge({
    paths: { '/items/{id}': { get: { responses: { 200: {}, 404: {}, 500: {}, 503: {} } } } },
  })
  const problem = (status: number, code: string, detail = 'A sentence.'): Reply => ({
    status,
    headers: new Map([['content-type', 'application/problem+json']]),
    body: Buffer.from(JSON.stringify({ status, code, detail })),
  })
  const asked = Buffer.from('GET /items/a HTTP/1.1\r\n\r\n')

  it('accepts documented answers', () => {
    expect(judge.fault(asked, problem(404, 'item_not_found'))).toBeNull()
    expect(judge.fault(asked, problem(503, 'overloaded'))).toBeNull()
  })

  it.each([
    ['is not in the OpenAPI document', problem(422, 'invalid_request')],
    ['comes with the code', problem(404, 'overloaded')],
    ['the service failed', problem(500, 'internal_error')],
    ['the service failed', problem(503, 'timed_out')],
    [
      'the service failed within an answer',
      {
        status: 200,
        headers: new Map([['content-type', 'application/json']]),
        body: Buffer.from('{"result":{"text":"Something went wrong. (internal_error)"}}'),
      },
    ],
    ['the insides', problem(404, 'item_not_found', 'at Object.read (/x/y.ts:3:1)')],
    [
      'not as a problem',
      { status: 404, headers: new Map([['content-type', 'text/plain']]), body: Buffer.from('x') },
    ],
    [
      'not JSON',
      {
        status: 200,
        headers: new Map([['content-type', 'application/json']]),
        body: Buffer.from('{'),
      },
    ],
  ])('reports "%s"', (sentence, reply: Reply) => {
    expect(judge.fault(asked, reply)).toContain(sentence)
  })
})
