import { beforeEach, describe, expect, it } from 'vitest'
import type { TandemError } from '../../../src/errors.js'
import { Admission, SAFETY_FACTOR } from '../../../src/model/queue/admission.js'
import { CostModel } from '../../../src/model/queue/cost-model.js'
import { Queue, type QueueEntry } from '../../../src/model/queue/queue.js'

let waiting: Queue<QueueEntry>
let forecast: CostModel
let admission: Admission

/** A text takes a second, an image two, a pair a tenth; a batch runs that is as good as done. */
beforeEach(() => {
  waiting = new Queue()
  forecast = new CostModel()
  forecast.observe({ graph: 'text', weight: 1, milliseconds: 1000, bulk: true }, 0)
  forecast.observe({ graph: 'image', weight: 1, milliseconds: 2000, bulk: true }, 0)
  forecast.observe({ graph: 'fusion', weight: 1, milliseconds: 100, bulk: true }, 0)
  admission = new Admission(waiting, forecast)
  waiting.add({ graph: 'text', priority: 'interactive', weight: 0.001 })
})

/**
 * @param seconds - to the deadline, of what the work is expected to take: the caution is added here
 */
const refused = (
  graph: 'text' | 'image',
  weight: number,
  seconds: number,
  more = {},
  before = 0,
): TandemError | null => {
  try {
    admission.admit(
      graph,
      weight,
      { deadline: performance.now() + SAFETY_FACTOR * seconds * 1000, ...more },
      before,
    )
    return null
  } catch (error) {
    return error as TandemError
  }
}

describe('admission', () => {
  it('admits work that ends before its deadline with a margin, and refuses the rest with Retry-After', () => {
    expect(refused('text', 4, 4.1)).toBeNull()
    const error = refused('text', 4, 3.7)
    expect(error).toMatchObject({ code: 'overloaded', retryAfterS: 1 })
    expect(error?.message).toMatch(/would take about 700[0-9] ms, and 647\d ms are left/)
    expect(refused('text', 40, 3.1)).toMatchObject({ retryAfterS: 65 })
  })

  it('refuses nothing without a deadline, and everything after it', () => {
    expect(() => admission.admit('text', 1e6, {})).not.toThrow()
    expect(refused('text', 1, -0.7)).toMatchObject({ code: 'overloaded' })
  })

  it('admits any work while nothing is ahead, so that one slow batch does not block all later ones', () => {
    const idle = new Admission(new Queue(), forecast)
    expect(() => idle.admit('text', 1000, { deadline: performance.now() + 100 })).not.toThrow()
    expect(() => idle.admit('text', 1000, { deadline: performance.now() + 100 }, 1)).toThrow()
    idle.idleAt = performance.now() + 1000
    expect(() => idle.admit('text', 1000, { deadline: performance.now() + 100 })).toThrow()
  })

  it('counts what waits of every graph, and the batch that runs', () => {
    expect(refused('text', 1, 3.3)).toBeNull()
    waiting.add({ graph: 'image', priority: 'interactive', weight: 2 })
    expect(refused('text', 1, 3.3)).not.toBeNull()
    expect(refused('text', 1, 5.2)).toBeNull()
    admission.idleAt = performance.now() + 3000
    expect(refused('text', 1, 5.2)).not.toBeNull()
    expect(refused('text', 1, 8.2)).toBeNull()
  })

  it('counts its own pairs, those that others will bring, and the time before', () => {
    expect(refused('text', 1, 3.3, { pairsAhead: 20 })).toBeNull()
    expect(refused('text', 1, 3.3, { pairsAhead: 40 })).not.toBeNull()
    expect(refused('text', 1, 3.3, {}, 4000)).not.toBeNull()
    admission.expectPairs({}, 40)
    expect(refused('text', 1, 3.3)).not.toBeNull()
    admission.expectPairs({}, -40)
    expect(refused('text', 1, 3.3)).toBeNull()
  })

  it("counts of each other client no more than what is the client's own", () => {
    for (const client of ['one', 'two'])
      for (let at = 0; at < 50; at += 1)
        waiting.add({ graph: 'image', priority: 'interactive', weight: 1, client })
    admission.expectPairs({ client: 'three' }, 1000)
    expect(refused('text', 1, 4.1, { client: 'good' })).toBeNull()
    expect(refused('text', 1, 3.7, { client: 'good' })).not.toBeNull()
    expect(refused('text', 1, 150, { client: 'one' })).not.toBeNull()
    // Bulk work waits for all interactive work.
    expect(refused('text', 1, 20, { client: 'good', priority: 'bulk' })).not.toBeNull()
  })

  it('lets bulk wait for interactive inputs, and not the other way round', () => {
    waiting.add({ graph: 'image', priority: 'bulk', weight: 4 })
    expect(refused('text', 1, 1.3)).toBeNull()
    expect(refused('text', 1, 1.3, { priority: 'bulk' })).not.toBeNull()
    waiting.add({ graph: 'text', priority: 'interactive', weight: 10 })
    expect(refused('text', 1, 1.3)).not.toBeNull()
    expect(refused('text', 1, 13.3, { priority: 'bulk' })).not.toBeNull()
    expect(refused('text', 1, 21.3, { priority: 'bulk' })).toBeNull()
  })

  it('admits bulk work that ends in time within its guaranteed share under any interactive load', () => {
    waiting.add({ graph: 'text', priority: 'interactive', weight: 1000 })
    expect(refused('text', 1, 26.7)).not.toBeNull()
    expect(refused('text', 1, 21.3, { priority: 'bulk' })).toBeNull()
    expect(refused('text', 1, 18.7, { priority: 'bulk' })).not.toBeNull()
  })
})
