/** One encoder and two search services as processes, compared with one service of both roles. */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageFolder } from '../../src/config.js'
import { startServer, type Service } from '../support/server-process.js'

const KEY = 'key-of-the-searching-ones'
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'

let folder: string
let encoder: Service
let searches: Service[]
let whole: Service
const running: ChildProcess[] = []

function start(name: string, environment: Record<string, string>): Promise<Service> {
  const source = [
    '--import',
    join(packageFolder, 'test/support/run-source.mjs'),
    join(packageFolder, 'src/server.ts'),
  ]
  return startServer(
    source,
    { TANDEM_DATA_DIR: join(folder, name), VECTOR_INDEX: 'exact', ...environment },
    running,
  )
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode
  child.kill(signal)
  return ((await once(child, 'exit')) as [number | null])[0]
}

const startEncoder = (port = '0'): Promise<Service> =>
  start('none', { TANDEM_ROLE: 'encode', API_KEYS: KEY, LOG_LEVEL: 'debug', PORT: port })

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-roles-'))
  encoder = await startEncoder()
  const role = {
    TANDEM_ROLE: 'search',
    ENCODER_URL: encoder.address,
    ENCODER_API_KEY: KEY,
    TANDEM_MODEL: '/no/bundle/here',
  }
  searches = [await start('first', role), await start('second', role)]
  whole = await start('whole', {})
})
afterAll(async () => {
  for (const child of running) await end(child, 'SIGKILL')
  await rm(folder, { recursive: true, force: true })
})

async function add({ address }: Service, id: string, hue: number): Promise<number> {
  const image = await sharp({
    create: { width: 40, height: 30, channels: 3, background: `hsl(${hue}, 80%, 50%)` },
  })
    .jpeg()
    .toBuffer()
  const url = `${address}/items/${id}`
  return (
    await fetch(url, {
      method: 'PUT',
      body: new Uint8Array(image),
      headers: { 'content-type': 'image/jpeg' },
    })
  ).status
}

async function hits({ address }: Service, query: string): Promise<unknown> {
  const answer = await fetch(`${address}/search?${query}`)
  return ((await answer.json()) as { hits?: unknown }).hits
}

describe('services with the roles encode and search', { timeout: 120_000 }, () => {
  it('answer as a single service does, and the encoder stores nothing', async () => {
    const services = [...searches, whole]
    for (const service of services) {
      for (let at = 0; at < 8; at += 1) expect(await add(service, `item-${at}`, at * 45)).toBe(201)
    }
    for (const query of [
      'q=a+red+ball&k=8',
      'q=the+blue+sea&k=3&rerank=false',
      'q=dog&min_match=0.4',
    ]) {
      const answers = await Promise.all(services.map((service) => hits(service, query)))
      expect(answers[2]).toBeInstanceOf(Array)
      for (const answer of answers) expect(answer).toEqual(answers[2])
    }
    expect(await hits(whole, 'q=a+red+ball&k=8')).toHaveLength(8)
    expect(existsSync(join(folder, 'none'))).toBe(false)
    const refused = await fetch(`${searches[0]?.address}/reembedding`, {
      method: 'PUT',
      body: '{"model":"other"}',
      headers: { 'content-type': 'application/json' },
    })
    expect([refused.status, await refused.json()]).toMatchObject([501, { code: 'not_supported' }])
  })

  it('log one trace id for a request through both', async () => {
    const answer = await fetch(`${searches[0]?.address}/search?q=dog`, {
      headers: { traceparent: `00-${TRACE}-00f067aa0ba902b7-01` },
    })
    expect(answer.headers.get('traceresponse')).toContain(TRACE)
    await expect
      .poll(
        () =>
          encoder.log
            .join('')
            .split('\n')
            .filter((line) => line.includes(TRACE) && line.includes('/encoder/')).length,
      )
      .toBeGreaterThan(1)
  })

  it('refuse searches without the encoder and recover when it is back', async () => {
    const [first] = searches as [Service]
    const { port } = new URL(encoder.address)
    expect(await end(encoder.process, 'SIGKILL')).toBeNull()
    const refused = await fetch(`${first.address}/search?q=dog`)
    expect([
      refused.status,
      refused.headers.get('retry-after'),
      await refused.json(),
    ]).toMatchObject([503, '1', { code: 'encoder_unavailable' }])
    expect(await add(first, 'lost', 9)).toBe(503)
    await expect
      .poll(async () => (await fetch(`${first.address}/health/ready`)).status, { timeout: 20_000 })
      .toBe(503)
    // Requests that need no encoder are answered.
    const like = {
      method: 'POST',
      body: '{"id":"item-1"}',
      headers: { 'content-type': 'application/json' },
    }
    expect((await fetch(`${first.address}/search`, like)).status).toBe(200)
    encoder = await startEncoder(port)
    await expect
      .poll(async () => (await fetch(`${first.address}/health/ready`)).status, { timeout: 20_000 })
      .toBe(200)
    expect(await add(first, 'found', 9)).toBe(201)
    expect(first.log.join('')).not.toContain(KEY)
  })

  it('stop cleanly, and refuse impossible settings at the start', async () => {
    const [, second] = searches as [Service, Service]
    expect(await end(second.process, 'SIGTERM')).toBe(0)
    const failure = await start('third', { TANDEM_ROLE: 'search' }).catch((error: unknown) => error)
    expect(String(failure)).toMatch(/expected in ENCODER_URL the address/)
    const dual = join(packageFolder, 'test/fixtures/tiny-dual-bundle')
    const other = await start('none', { TANDEM_ROLE: 'encode', TANDEM_MODEL: dual })
    const mixed = await start('second', {
      TANDEM_ROLE: 'search',
      ENCODER_URL: other.address,
    }).catch((error: unknown) => error)
    expect(String(mixed)).toMatch(/fingerprint/)
  })
})
