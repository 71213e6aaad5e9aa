import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { packageFolder } from '../../../src/config.js'
import { BatchCounter } from '../../../src/model/queue/batch-sizes.js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestService, type TestService } from '../../support/test-service.js'

const dataFolder = await mkdtemp(join(tmpdir(), 'tandem-'))
let tandem: TestService

beforeAll(async () => {
  await mkdir(join(dataFolder, 'index'))
  await writeFile(join(dataFolder, 'index', 'graph'), new Uint8Array(8192).fill(1))
  tandem = await startTestService({ dataFolder })
  await tandem.retrieval.add({ id: 'a', image: Buffer.from('dog'), payload: null })
})
afterAll(async () => {
  await tandem.end()
  await rm(dataFolder, { recursive: true })
})

const metrics = async (): Promise<string> => (await tandem.app.inject('/metrics')).body

describe('/metrics', () => {
  it('has no metric of ours that docs/http-api.md does not name', async () => {
    const docs = await readFile(join(packageFolder, 'docs', 'http-api.md'), 'utf8')
    const names = [...(await metrics()).matchAll(/^# TYPE (tandem_\w+)/gm)].map(([, name]) => name)
    expect(names.length).toBeGreaterThan(10)
    expect(names.filter((name) => !docs.includes(`\`${name}\``))).toEqual([])
  })

  it('counts requests by route pattern and status, and stages by name', async () => {
    await tandem.app.inject('/search?q=dog')
    await tandem.app.inject('/items/a')
    await tandem.app.inject('/items/b')
    const text = await metrics()
    expect(text).toMatch(
      /tandem_http_requests_total\{method="GET",route="\/search",status="200"\} 1/,
    )
    expect(text).toMatch(
      /tandem_http_requests_total\{method="GET",route="\/items\/:id",status="404"\} 1/,
    )
    expect(text).toMatch(/tandem_http_request_duration_seconds_count\{route="\/items\/:id"\} 2/)
    for (const stage of ['encode', 'recall', 'fetch', 'rerank', 'total']) {
      expect(text).toContain(`tandem_stage_duration_seconds_count{stage="${stage}"} 1`)
    }
    expect(text).toMatch(/^tandem_items 1$/m)
    expect(text).toContain(
      'tandem_model_info{bundle="words",version="1.0.0",fingerprint="0123456789abcdef"} 1',
    )
  })

  it('measures the delay of the event loop, with a sample for every 20 ms of a standstill', async () => {
    const count = (text: string, name: string): number =>
      Number(new RegExp(`^tandem_event_loop_delay_seconds_${name} (\\d+)$`, 'm').exec(text)?.[1])
    const soon = 'bucket{le="0.1"}'
    const before = await metrics()
    const until = performance.now() + 400
    while (performance.now() < until);
    await new Promise((resolve) => setTimeout(resolve, 30))
    const after = await metrics()
    const longer = (text: string): number =>
      count(text, 'count') - count(text, soon.replace(/[{}.]/g, '\\$&'))
    // 300 of the 400 ms were more than 100 ms late, at 20 ms a sample.
    expect(longer(after) - longer(before)).toBeGreaterThanOrEqual(13)
  })

  it('measures the time of refusals, and of no other errors', async () => {
    const counted = async (): Promise<string> =>
      /^tandem_refusal_duration_seconds_count (\d+)$/m.exec(await metrics())?.[1] ?? ''
    await tandem.app.inject('/items/b')
    expect(await counted()).toBe('0')
    const busy = await startTestService({ rateLimitPerSecond: 1, limits: { rateLimitBurst: 1 } })
    for (let i = 0; i < 3; i += 1) await busy.app.inject('/search?q=dog')
    const { body } = await busy.app.inject({ url: '/metrics', remoteAddress: '127.0.0.9' })
    await busy.end()
    expect(body).toMatch(/^tandem_refusal_duration_seconds_count 2$/m)
    expect(body).toMatch(
      /^tandem_http_requests_rejected_total\{code="rate_limited",reason="none"\} 2$/m,
    )
  })

  it('counts refusals by their reason', async () => {
    const busy = await startTestService({ maxConcurrentRequests: 1 })
    let answer = (): void => undefined
    const waits = new Promise<void>((resolve) => (answer = resolve))
    const encodeTexts = busy.models.encodeTexts.bind(busy.models)
    busy.models.encodeTexts = async (...args) => (await waits, encodeTexts(...args))
    const first = busy.app.inject('/search?q=dog')
    await new Promise((resolve) => setImmediate(resolve))
    const { statusCode } = await busy.app.inject('/search?q=dog')
    answer()
    expect([statusCode, (await first).statusCode]).toEqual([503, 200])
    const { body } = await busy.app.inject('/metrics')
    await busy.end()
    expect(body).toMatch(
      /^tandem_http_requests_rejected_total\{code="overloaded",reason="requests"\} 1$/m,
    )
  })

  it('reads the memory of each worker, and of none that has ended', async () => {
    const { pid } = process
    tandem.models.workers = [
      { name: 'decoder', pid, ready: true, restarts: 0 },
      { name: 'decoder', pid, ready: true, restarts: 0 },
      { name: 'inference', pid: null, ready: false, restarts: 0 },
      { name: 'index', pid: 2 ** 30, ready: false, restarts: 0 },
    ]
    const text = await metrics()
    const bytesOf = (worker: string): number =>
      Number(
        new RegExp(
          `^tandem_worker_resident_memory_bytes\\{worker="${worker}"\\} (\\S+)$`,
          'm',
        ).exec(text)?.[1],
      )
    const own = process.memoryUsage.rss()
    expect(bytesOf('decoder')).toBeGreaterThan(own)
    expect(bytesOf('decoder')).toBeLessThan(4 * own)
    expect([bytesOf('inference'), bytesOf('index')]).toEqual([0, 0])
  })

  it('has the sizes of batches as a histogram', async () => {
    const counter = new BatchCounter('fusion')
    for (const inputs of [1, 3, 200]) counter.add(inputs)
    tandem.models.batches = [counter.read()]
    const lines = (await metrics()).split('\n').filter((line) => line.includes('model_batch'))
    expect(lines).toContain('# TYPE tandem_model_batch_inputs histogram')
    expect(lines).toEqual(
      expect.arrayContaining([
        'tandem_model_batch_inputs_bucket{graph="fusion",le="1"} 1',
        'tandem_model_batch_inputs_bucket{graph="fusion",le="2"} 1',
        'tandem_model_batch_inputs_bucket{graph="fusion",le="4"} 2',
        'tandem_model_batch_inputs_bucket{graph="fusion",le="128"} 2',
        'tandem_model_batch_inputs_bucket{graph="fusion",le="+Inf"} 3',
        'tandem_model_batch_inputs_sum{graph="fusion"} 204',
        'tandem_model_batch_inputs_count{graph="fusion"} 3',
      ]),
    )
  })

  it('reads the disk, and the time of the newest backup', async () => {
    const value = (text: string, name: string): number =>
      Number(new RegExp(`^${name.replace(/[{}]/g, '\\$&')} (\\S+)$`, 'm').exec(text)?.[1])
    const before = await metrics()
    const [free, size] = ['free', 'size'].map((of) =>
      value(before, `tandem_disk_${of}_bytes{folder="data"}`),
    )
    expect(free).toBeGreaterThan(0)
    expect(size).toBeGreaterThanOrEqual(free as number)
    expect(value(before, 'tandem_disk_used_bytes{part="index"}')).toBeGreaterThanOrEqual(8192)
    expect(value(before, 'tandem_disk_used_bytes{part="backups"}')).toBe(0)
    expect(before).not.toMatch(/^tandem_last_backup_timestamp_seconds /m)
    const began = Math.floor(Date.now() / 1000)
    await tandem.app.inject({ method: 'POST', url: '/backups' })
    await expect
      .poll(async () => value(await metrics(), 'tandem_last_backup_timestamp_seconds'))
      .toBeGreaterThanOrEqual(began)
    expect(value(await metrics(), 'tandem_disk_used_bytes{part="backups"}')).toBeGreaterThan(0)
  })

  it('counts the restarts of each worker', async () => {
    tandem.models.workers = [{ name: 'inference', pid: 5, ready: true, restarts: 2 }]
    expect(await metrics()).toMatch(/^tandem_worker_restarts_total\{worker="inference"\} 2$/m)
    expect(await metrics()).toMatch(/^tandem_worker_restarts_total\{worker="inference"\} 2$/m)
  })

  it('does not grow with the number of URLs', async () => {
    const count = (text: string): number =>
      text.split('\n').filter((line) => /requests_total|_duration_seconds/.test(line)).length
    await tandem.app.inject('/unknown-0')
    const before = count(await metrics())
    for (let at = 1; at < 20; at += 1)
      await tandem.app.inject({ method: at % 2 === 0 ? 'GET' : 'DELETE', url: `/unknown-${at}` })
    for (let at = 0; at < 20; at += 1) await tandem.app.inject(`/items/none-${at}`)
    expect(count(await metrics())).toBeLessThanOrEqual(before + 1)
  })

  it('has fewer than 600 lines after a request to every route, and 250 after those of a search page', async () => {
    const linesOf = (text: string): number =>
      text.split('\n').filter((line) => line !== '' && !line.startsWith('#')).length
    const page = await startTestService()
    for (const url of ['/', '/model', '/search?q=dog', '/search?q=', '/items/a', '/items/a/image'])
      await page.app.inject(url)
    const few = linesOf((await page.app.inject('/metrics')).body)
    await page.end()
    expect(few).toBeLessThan(250)
    const { paths } = (await tandem.app.inject('/openapi.json')).json<{
      paths: Record<string, Record<string, unknown>>
    }>()
    for (const [path, methods] of Object.entries(paths))
      for (const method of Object.keys(methods))
        await tandem.app.inject({ method: method.toUpperCase() as 'GET', url: path })
    expect(linesOf(await metrics())).toBeLessThan(600)
  })
})
