/** A short run of the fuzzer (`npm run fuzz` is the long one), everything that it ever found, and that it would notice. */
import { describe, expect, it } from 'vitest'
import { runCampaign } from './fuzz/campaign.js'
import type { Reply } from './fuzz/connection.js'
import { Judge } from './fuzz/judge.js'
import { layoutOf } from './fuzz/layout.js'
import { mutatedPictures } from './fuzz/pictures.js'
import { kinds, seedsOf } from './fuzz/seeds.js'

const seed = Date.now() % 1_000_000

describe('a service that is sent', { timeout: 300_000 }, () => {
  it('600 mutated pictures lives, and answers each as it should', async () => {
    console.info(`seed of the mutated pictures: ${seed}`)
    const { sent, findings, deaths, byStatus } = await runCampaign(await mutatedPictures(600, seed), 600)
    expect(findings.map(({ fault }) => fault), `seed ${seed}`).toEqual([])
    expect({ sent, deaths }).toEqual({ sent: 600, deaths: 0 })
    // Mutants that are all refused, or all read, try nothing.
    expect(byStatus.get(200)).toBeGreaterThan(60)
    expect(byStatus.get(422)).toBeGreaterThan(60)
  })
})

it.each(kinds)('the parts and numbers of each %s seed are found', async (kind) => {
  for (const bytes of await seedsOf(kind)) {
    const { parts, fields } = layoutOf(bytes)
    expect(fields.length).toBeGreaterThan(5)
    for (const { from, to } of parts) expect(to).toBeGreaterThan(from)
    expect(Math.max(...parts.map(({ to }) => to))).toBeLessThanOrEqual(bytes.length)
  }
})

describe('the judge', () => {
  const judge = new Judge({ paths: { '/items/{id}': { get: { responses: { 200: {}, 404: {}, 500: {}, 503: {} } } } } })
  const problem = (status: number, code: string, detail = 'A sentence.'): Reply => ({
    status,
    headers: new Map([['content-type', 'application/problem+json']]),
    body: Buffer.from(JSON.stringify({ status, code, detail })),
  })
  const asked = Buffer.from('GET /items/a HTTP/1.1\r\n\r\n')

  it('lets pass what is documented', () => {
    expect(judge.fault(asked, problem(404, 'item_not_found'))).toBeNull()
    expect(judge.fault(asked, problem(503, 'overloaded'))).toBeNull()
  })

  it.each([
    ['is not in the OpenAPI document', problem(422, 'invalid_request')],
    ['comes with the code', problem(404, 'overloaded')],
    ['the service failed', problem(500, 'internal_error')],
    ['the service failed', problem(503, 'timed_out')],
    ['the insides', problem(404, 'item_not_found', 'at Object.read (/x/y.ts:3:1)')],
    ['not as a problem', { status: 404, headers: new Map([['content-type', 'text/plain']]), body: Buffer.from('x') }],
    ['not JSON', { status: 200, headers: new Map([['content-type', 'application/json']]), body: Buffer.from('{') }],
  ])('notices an answer that %s', (sentence, reply: Reply) => {
    expect(judge.fault(asked, reply)).toContain(sentence)
  })
})
