/** Spans at a collector of this test, which takes OTLP as JSON over HTTP. */
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageFolder } from '../../../src/config.js'
import { startTestService, type TestService } from '../../support/test-service.js'

interface Span {
  name: string
  kind: number
  traceId: string
  spanId: string
  parentSpanId?: string
  startTimeUnixNano: string
  endTimeUnixNano: string
  status: { code?: number }
  attributes: { key: string; value: Record<string, unknown> }[]
}
interface Sent {
  resourceSpans: {
    resource: { attributes: { key: string; value: { stringValue?: string } }[] }
    scopeSpans: { spans: Span[] }[]
  }[]
}

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const CLIENT = '00f067aa0ba902b7'
const spans: Span[] = []
const names: unknown[] = []
let collector: Server
let tandem: TestService

beforeAll(async () => {
  collector = createServer((request, response) => {
    void json(request).then((body) => {
      for (const { resource, scopeSpans } of (body as Sent).resourceSpans) {
        names.push(resource.attributes.find(({ key }) => key === 'service.name')?.value)
        spans.push(...scopeSpans.flatMap((scope) => scope.spans))
      }
      response.setHeader('content-type', 'application/json').end('{}')
    })
  }).listen(0, '127.0.0.1')
  await once(collector, 'listening')
  const { port } = collector.address() as AddressInfo
  tandem = await startTestService({
    otlpEndpoint: `http://127.0.0.1:${port}`,
    otelServiceName: 'photos',
  })
  await tandem.retrieval.add({ id: 'a', image: Buffer.from('dog'), payload: null })
  const encodeTexts = tandem.models.encodeTexts.bind(tandem.models)
  tandem.models.encodeTexts = async (...args) => {
    const answer = await encodeTexts(...args)
    return { ...answer, timings: { tokenize: 0.25, queue: 0.5, inference: 1 } }
  }
  const headers = { traceparent: `00-${TRACE}-${CLIENT}-01` }
  await tandem.app.inject({ url: '/search?q=dog', headers })
  await tandem.app.inject({
    url: '/search?q=dog',
    headers: { traceparent: `00-${'1'.repeat(32)}-${CLIENT}-00` },
  })
  tandem.models.encodeTexts = () => Promise.reject(new Error('a defect'))
  await tandem.app.inject('/search?q=dog')
  // Sends what waits.
  await tandem.end()
})
afterAll(() => new Promise((resolve) => collector.close(resolve)))

const ofTrace = (id: string): Span[] => spans.filter(({ traceId }) => traceId === id)

describe('the spans of a search', () => {
  it('are a child of the span of the client, with the stages in it', () => {
    const [request, ...others] = ofTrace(TRACE).sort((a, b) => b.kind - a.kind)
    expect(request).toMatchObject({ name: 'GET /search', parentSpanId: CLIENT, kind: 2 })
    expect(request?.attributes).toContainEqual({
      key: 'http.response.status_code',
      value: { intValue: 200 },
    })
    const stages = others.filter(({ parentSpanId }) => parentSpanId === request?.spanId)
    expect(stages.map(({ name }) => name)).toEqual(['encode', 'recall', 'fetch', 'rerank'])
    const encode = stages[0]
    const parts = others.filter(({ parentSpanId }) => parentSpanId === encode?.spanId)
    expect(parts.map(({ name }) => name)).toEqual(['tokenize', 'queue', 'inference'])
    const micros = ({ startTimeUnixNano: from, endTimeUnixNano: to }: Span): number =>
      Number(BigInt(to) - BigInt(from)) / 1000
    expect(parts.map(micros)).toEqual([250, 500, 1000])
    expect(parts[1]?.startTimeUnixNano).toBe(parts[0]?.endTimeUnixNano)
    for (const stage of stages)
      expect(BigInt(stage.startTimeUnixNano)).toBeGreaterThanOrEqual(
        BigInt(request?.startTimeUnixNano ?? 0) - 1000n,
      )
    expect(
      Math.abs(Number(BigInt(request?.endTimeUnixNano ?? 0) / 1_000_000n) - Date.now()),
    ).toBeLessThan(60_000)
  })

  it('have the name of the service', () => {
    expect(names[0]).toEqual({ stringValue: 'photos' })
  })

  it('are not sent for a trace that the client does not record', () => {
    expect(ofTrace('1'.repeat(32))).toEqual([])
  })

  it('begin a trace of their own without a client, and mark a failure', () => {
    const failed = spans.filter(({ status }) => status.code === 2)
    expect(failed).toHaveLength(1)
    expect(failed[0]).toMatchObject({ name: 'GET /search' })
    expect(failed[0]?.parentSpanId ?? '').toBe('')
  })
})

describe('the modules of OpenTelemetry', () => {
  it('are imported by one file, which is loaded only where a collector is configured', () => {
    const folder = join(packageFolder, 'src')
    const sources = readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts'))
      .map((file) => ({ file, text: readFileSync(join(folder, file), 'utf8') }))
    const using = sources.filter(({ text }) => text.includes("from '@opentelemetry/"))
    expect(using.map(({ file }) => file)).toEqual([join('http', 'otlp-spans.ts')])
    const importing = sources.filter(({ text }) =>
      /^import (?!type )[^']*'[^']*(otlp-spans|plugins\/spans)\.js'/m.test(text),
    )
    expect(importing.map(({ file }) => file)).toEqual([])
  })
})
