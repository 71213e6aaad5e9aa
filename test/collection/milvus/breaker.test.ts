import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Breaker } from '../../../src/collection/milvus/breaker.js'

describe('the breaker', () => {
  let isHealthy: boolean
  let probes: number
  let changes: string[]
  let breaker: Breaker

  beforeEach(() => {
    vi.useFakeTimers()
    isHealthy = false
    probes = 0
    changes = []
    const probe = (): Promise<void> => {
      probes += 1
      return isHealthy ? Promise.resolve() : Promise.reject(new Error('still away'))
    }
    breaker = new Breaker({
      failures: 3,
      firstPauseMs: 100,
      maxPauseMs: 400,
      probe,
      onChange: (state) => changes.push(state),
    })
  })
  afterEach(() => {
    breaker.end()
    vi.useRealTimers()
  })
  const fail = (times: number): void => {
    for (let i = 0; i < times; i += 1) breaker.failed()
  }

  it('opens only after consecutive failures', () => {
    fail(2)
    breaker.succeeded()
    fail(2)
    expect([breaker.state, breaker.opened]).toEqual(['closed', 0])
    fail(1)
    expect([breaker.state, breaker.opened, changes]).toEqual(['open', 1, ['open']])
    fail(5)
    expect([breaker.opened, changes]).toEqual([1, ['open']])
  })

  it('probes after pauses that double and closes when a probe succeeds', async () => {
    fail(3)
    for (const [pause, expected] of [
      [100, 1],
      [200, 2],
      [400, 3],
      [400, 4],
    ] as const) {
      await vi.advanceTimersByTimeAsync(pause - 1)
      expect(probes).toBe(expected - 1)
      await vi.advanceTimersByTimeAsync(1)
      expect([probes, breaker.state]).toEqual([expected, 'open'])
    }
    isHealthy = true
    await vi.advanceTimersByTimeAsync(400)
    expect([breaker.state, changes]).toEqual(['closed', ['open', 'closed']])
    fail(3)
    await vi.advanceTimersByTimeAsync(100)
    expect([breaker.state, breaker.opened]).toEqual(['closed', 2])
  })

  it('is not closed by a call that began before it opened', () => {
    fail(3)
    breaker.succeeded()
    expect(breaker.state).toBe('open')
  })

  it('stops probing when it has ended', async () => {
    fail(3)
    breaker.end()
    await vi.advanceTimersByTimeAsync(5000)
    expect(probes).toBe(0)
  })
})
