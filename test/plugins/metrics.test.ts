import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { wordTandem, type WordTandem } from '../word-rooms.js'

let tandem: WordTandem

beforeAll(async () => {
  tandem = await wordTandem()
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
    expect(text).toMatch(/tandem_http_request_duration_seconds_count\{method="GET",route="\/search",status="200"\} 1/)
    expect(text).toMatch(
      /tandem_http_request_duration_seconds_count\{method="GET",route="\/items\/:id",status="404"\} 1/,
    )
    for (const stage of ['encode', 'recall', 'fetch', 'rerank', 'total']) {
      expect(text).toContain(`tandem_stage_duration_seconds_count{stage="${stage}"} 1`)
    }
    expect(text).toMatch(/^tandem_items 1$/m)
    expect(text).toContain('tandem_model_info{bundle="words",version="1.0.0",fingerprint="0123456789abcdef"} 1')
  })

  it('does not grow with the addresses that are asked for', async () => {
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
