import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestService, type TestService } from '../../support/test-service.js'

let tandem: TestService

beforeAll(async () => {
  tandem = await startTestService()
  await tandem.retrieval.add({ id: 'a', image: Buffer.from('dog'), payload: null })
})
afterAll(() => tandem.end())

const metrics = async (): Promise<string> => (await tandem.app.inject('/metrics')).body

describe('/metrics', () => {
  it('counts requests by route pattern and status, and stages by name', async () => {
    await tandem.app.inject('/search?q=dog')
    await tandem.app.inject('/items/a')
    await tandem.app.inject('/items/b')
    const text = await metrics()
    expect(text).toMatch(
      /tandem_http_request_duration_seconds_count\{method="GET",route="\/search",status="200"\} 1/,
    )
    expect(text).toMatch(
      /tandem_http_request_duration_seconds_count\{method="GET",route="\/items\/:id",status="404"\} 1/,
    )
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
  })

  it('counts the restarts of each worker', async () => {
    tandem.models.workers = [{ name: 'inference', pid: 5, ready: true, restarts: 2 }]
    expect(await metrics()).toMatch(/^tandem_worker_restarts_total\{worker="inference"\} 2$/m)
    expect(await metrics()).toMatch(/^tandem_worker_restarts_total\{worker="inference"\} 2$/m)
  })

  it('does not grow with the number of URLs', async () => {
    const count = (text: string): number =>
      text.split('\n').filter((line) => line.includes('request_duration_seconds_count')).length
    await tandem.app.inject('/unknown-0')
    const before = count(await metrics())
    for (let at = 1; at < 20; at += 1)
      await tandem.app.inject({ method: at % 2 === 0 ? 'GET' : 'DELETE', url: `/unknown-${at}` })
    for (let at = 0; at < 20; at += 1) await tandem.app.inject(`/items/none-${at}`)
    expect(count(await metrics())).toBeLessThanOrEqual(before + 1)
  })
})
