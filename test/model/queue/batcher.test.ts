import { beforeEach, describe, expect, it } from 'vitest'
import { TandemError } from '../../../src/errors.js'
import { Batcher, type Lane } from '../../../src/model/queue/batcher.js'
import type { GraphName, Tensors } from '../../../src/model/onnx/graph-inputs.js'
import type { BatchResult } from '../../../src/model/inference/process.js'

/**
 * Stands for the workers: holds each batch until the test lets it go, and answers ten times each
 * number.
 */
class HeldInference {
  ready = true
  readonly size: number
  readonly batches: { graph: GraphName; values: number[] }[] = []
  /** Outputs that each batch wanted. */
  readonly wanted: (readonly string[] | undefined)[] = []
  #release: ((error?: Error) => void)[] = []

  constructor(size = 1) {
    this.size = size
  }

  get free(): number {
    return this.ready ? this.size - this.#release.length : 0
  }

  run(graph: GraphName, inputs: Tensors, wanted?: readonly string[]): Promise<BatchResult> {
    this.wanted.push(wanted)
    const values = [...((inputs.numbers?.data ?? []) as Float32Array)]
    this.batches.push({ graph, values })
    return new Promise((resolve, reject) => {
      this.#release.push((error) => {
        if (error !== undefined) reject(error)
        else resolve({ outputs: numbers(values.map((value) => value * 10)), milliseconds: 5 })
      })
    })
  }

  unavailable(): TandemError {
    return new TandemError('model_unavailable', 'away')
  }

  /** Ends the oldest batch that runs, and waits until the next one, if any, has begun. */
  async release(error?: Error): Promise<void> {
    this.#release.shift()?.(error)
    await new Promise((resolve) => setImmediate(resolve))
  }
}

function numbers(values: readonly number[]): Tensors {
  return { numbers: { type: 'float32', data: Float32Array.from(values), dims: [values.length] } }
}

function laneOf(
  graph: GraphName,
  maxWeight: number,
  weigh: (value: number) => number = () => 1,
): Lane<number, number> {
  return {
    graph,
    maxWeight,
    weigh,
    assemble: numbers,
    split: (outputs) => [...((outputs.numbers?.data ?? []) as Float32Array)],
  }
}

const text = laneOf('text', 4)
const image = laneOf('image', 2)

let inference: HeldInference
let batcher: Batcher

beforeEach(() => {
  inference = new HeldInference()
  batcher = new Batcher(inference, 20)
})

const values = (): number[][] => inference.batches.map((batch) => batch.values)

describe('joining', () => {
  it('runs at once when nothing runs, and joins what waits meanwhile', async () => {
    const answers = [1, 2, 3].map((value) => batcher.submit(text, [value]))
    expect(values()).toEqual([[1]])
    expect([batcher.inFlight, batcher.queueDepth]).toEqual([1, 2])
    await inference.release()
    expect(values()).toEqual([[1], [2, 3]])
    await inference.release()
    expect((await Promise.all(answers)).map(({ results }) => results)).toEqual([[10], [20], [30]])
    expect([batcher.inFlight, batcher.queueDepth]).toEqual([0, 0])
  })

  it('keeps a batch within its weight, and the order of each submission', async () => {
    const answer = batcher.submit(text, [1, 2, 3, 4, 5, 6, 7, 8, 9])
    for (let i = 0; i < 3; i += 1) await inference.release()
    expect(values()).toEqual([[1, 2, 3, 4], [5, 6, 7, 8], [9]])
    expect(await answer).toMatchObject({
      results: [10, 20, 30, 40, 50, 60, 70, 80, 90],
      inference: 15,
    })
  })

  it('asks the worker for the embedding alone where nobody in a batch wants more', async () => {
    const embeddingOnly = true
    const answers = [
      batcher.submit(text, [1], { embeddingOnly }),
      batcher.submit(text, [2], { embeddingOnly }),
      batcher.submit(text, [3]),
    ]
    await inference.release()
    await inference.release()
    expect(values()).toEqual([[1], [2, 3]])
    expect(inference.wanted).toEqual([['embedding'], undefined])
    await Promise.all(answers)
  })

  it('weighs inputs, and runs one that is too heavy alone', async () => {
    const heavy = laneOf('fusion', 10, (value) => value)
    const answer = batcher.submit(heavy, [3, 4, 5, 40, 1])
    for (let i = 0; i < 4; i += 1) await inference.release()
    expect(values()).toEqual([[3, 4], [5], [40], [1]])
    await answer
  })

  it('takes the graphs in turn, so that a long upload does not hold up a search', async () => {
    const upload = batcher.submit(image, [1, 2, 3, 4, 5, 6])
    const search = batcher.submit(text, [7])
    for (let i = 0; i < 4; i += 1) await inference.release()
    expect(values()).toEqual([[1, 2], [7], [3, 4], [5, 6]])
    await Promise.all([upload, search])
  })

  it('answers an empty submission without a batch', async () => {
    expect(await batcher.submit(text, [])).toEqual({ results: [], queue: 0, inference: 0 })
    expect(values()).toEqual([])
  })
})

describe('two priorities', () => {
  const bulk = { priority: 'bulk' } as const

  it('lets bulk run while nothing interactive waits, whichever came first', async () => {
    const answers = [
      batcher.submit(text, [0]),
      batcher.submit(image, [1], bulk),
      batcher.submit(text, [2]),
    ]
    for (let i = 0; i < 3; i += 1) await inference.release()
    expect(values()).toEqual([[0], [2], [1]])
    await Promise.all(answers)
  })

  it('never joins the two, even of one graph', async () => {
    const answers = [
      batcher.submit(text, [0]),
      batcher.submit(text, [1], bulk),
      batcher.submit(text, [2]),
    ]
    for (let i = 0; i < 3; i += 1) await inference.release()
    expect(values()).toEqual([[0], [2], [1]])
    await Promise.all(answers)
  })

  it('gives bulk one batch in eight while interactive inputs never cease', async () => {
    const single = laneOf('text', 1)
    const answers = [batcher.submit(single, [0]), batcher.submit(image, [100, 101], bulk)]
    for (let i = 1; i <= 18; i += 1) {
      answers.push(batcher.submit(single, [i]))
      await inference.release()
    }
    for (let i = 0; i < 3; i += 1) await inference.release()
    await Promise.all(answers)
    const turns = values().map(([first = 0]) => first >= 100)
    expect(turns.flatMap((isBulk, at) => (isBulk ? [at] : []))).toEqual([8, 16])
  })

  it('limits a bulk batch by the recent time of inputs, and does not limit an interactive one', async () => {
    const slow = async (): Promise<void> => {
      await new Promise((resolve) => setTimeout(resolve, 40))
      await inference.release()
    }
    const wide = laneOf('image', 8)
    const uploaded = batcher.submit(wide, [1, 2, 3], bulk)
    await slow()
    const searched = batcher.submit(wide, [7, 8, 9])
    await slow()
    await slow()
    await slow()
    expect(values()).toEqual([[1], [2], [7, 8, 9], [3]])
    await Promise.all([uploaded, searched])
  })
})

describe('two workers', () => {
  beforeEach(() => {
    inference = new HeldInference(2)
    batcher = new Batcher(inference, 20)
  })

  it('run a batch each, and the one that is done takes the next', async () => {
    const answer = batcher.submit(image, [1, 2, 3, 4, 5])
    expect(values()).toEqual([
      [1, 2],
      [3, 4],
    ])
    expect([batcher.inFlight, batcher.queueDepth]).toEqual([4, 1])
    await inference.release()
    expect(values()).toEqual([[1, 2], [3, 4], [5]])
    await inference.release()
    await inference.release()
    expect((await answer).results).toEqual([10, 20, 30, 40, 50])
    expect([batcher.inFlight, batcher.queueDepth]).toEqual([0, 0])
  })

  it('share what waits when both are free', async () => {
    const first = batcher.submit(text, [1, 2, 3])
    expect(values()).toEqual([[1, 2], [3]])
    await inference.release()
    await inference.release()
    await first
  })

  it('halve what is before a call, and nothing is while one of them is idle', async () => {
    const fusion = laneOf('fusion', 1)
    const matched = batcher.submit(fusion, [1])
    await new Promise((resolve) => setTimeout(resolve, 20))
    await inference.release()
    await matched
    // A pair takes 20 ms at least, and some more here: 800 of them 16 s on each of the two, 32 s on
    // one of them.
    const searching = batcher.submit(text, [0], { pairsAhead: 800 })
    const admit = (seconds: number): void =>
      batcher.admit('fusion', 1, { deadline: performance.now() + seconds * 1000 })
    expect(() => admit(6)).toThrow(TandemError)
    await inference.release()
    await searching
    const held = batcher.submit(fusion, [1])
    expect(() => admit(0.001)).not.toThrow()
    await inference.release()
    await held
  })
})

describe('a deadline', () => {
  it('counts the pairs that searches will match until their texts are encoded or cancelled', async () => {
    const fusion = laneOf('fusion', 64)
    const matched = batcher.submit(fusion, [1])
    await new Promise((resolve) => setTimeout(resolve, 20))
    await inference.release()
    await matched
    const controller = new AbortController()
    const held = batcher.submit(text, [0])
    // Each pair took 20 ms at least, so a thousand of them take 20 s.
    const searching = batcher.submit(text, [1], { pairsAhead: 1000, signal: controller.signal })
    const admit = (pairsAhead: number): void =>
      batcher.admit('text', 1, { deadline: performance.now() + 15_000, pairsAhead })
    expect(() => admit(1)).toThrow(TandemError)
    controller.abort(new Error('gone'))
    await expect(searching).rejects.toThrow('gone')
    expect(() => admit(1)).not.toThrow()
    const waiting = batcher.submit(fusion, [1])
    expect(() => admit(1000)).toThrow(TandemError)
    await inference.release()
    await inference.release()
    await Promise.all([held, waiting])
  })
})

describe('giving up', () => {
  it('drops what waits for a signal that fires, at once, and runs the rest', async () => {
    const first = batcher.submit(text, [1])
    const controller = new AbortController()
    const dropped = batcher.submit(text, [2, 3], { signal: controller.signal })
    const kept = batcher.submit(text, [4])
    controller.abort(new TandemError('timed_out', 'too late'))
    await expect(dropped).rejects.toMatchObject({ code: 'timed_out' })
    expect(batcher.queueDepth).toBe(1)
    await inference.release()
    await inference.release()
    expect(values()).toEqual([[1], [4]])
    await Promise.all([first, kept])
  })

  it('refuses a signal that has fired already', async () => {
    await expect(
      batcher.submit(text, [1], { signal: AbortSignal.abort(new Error('gone')) }),
    ).rejects.toThrow('gone')
    expect(values()).toEqual([])
  })

  it('does not mind a signal that fires when all is done', async () => {
    const controller = new AbortController()
    const answer = batcher.submit(text, [1], { signal: controller.signal })
    await inference.release()
    expect((await answer).results).toEqual([10])
    controller.abort()
    expect(batcher.queueDepth).toBe(0)
  })
})

describe('limits and failures', () => {
  it('refuses a submission that does not fit the queue as overloaded, with Retry-After', async () => {
    const running = batcher.submit(text, [0])
    const waiting = batcher.submit(
      text,
      Array.from({ length: 18 }, (_, i) => i),
    )
    await expect(batcher.submit(text, [1, 2, 3])).rejects.toMatchObject({
      code: 'overloaded',
      retryAfterS: 1,
    })
    const last = batcher.submit(text, [1, 2])
    expect(batcher.queueDepth).toBe(20)
    for (let i = 0; i < 8; i += 1) await inference.release()
    await Promise.all([running, waiting, last])
  })

  it('takes into a full queue what is within the share of a client', async () => {
    const many = Array.from({ length: 20 }, (_, i) => i)
    const large = [0, 1].map((at) => batcher.submit(text, at === 0 ? [0] : many, { client: 'one' }))
    await expect(batcher.submit(text, [1], { client: 'one' })).rejects.toMatchObject({
      code: 'overloaded',
    })
    const small = batcher.submit(text, [77], { client: 'another' })
    await expect(
      batcher.submit(text, many.slice(0, 10), { client: 'another' }),
    ).rejects.toMatchObject({ code: 'overloaded' })
    for (let i = 0; i < 2; i += 1) await inference.release()
    expect(values()[2]).toContain(77)
    for (let i = 0; i < 5; i += 1) await inference.release()
    await Promise.all([...large, small])
  })

  it('fails all inputs of the submissions in a failed batch, and no others', async () => {
    const failing = expect(batcher.submit(text, [1, 2, 3, 4, 5])).rejects.toThrow(
      'the graph failed',
    )
    const other = batcher.submit(text, [6])
    await inference.release(new Error('the graph failed'))
    await failing
    expect(values()).toEqual([[1, 2, 3, 4], [6]])
    await inference.release()
    expect((await other).results).toEqual([60])
  })

  it('fails waiting inputs when the worker dies, and refuses new ones until it is ready', async () => {
    const answers = Promise.allSettled([
      batcher.submit(text, [1]),
      batcher.submit(text, [2]),
      batcher.submit(image, [3]),
    ])
    inference.ready = false
    await inference.release(inference.unavailable())
    for (const answer of await answers) {
      expect(answer).toMatchObject({ status: 'rejected', reason: { code: 'model_unavailable' } })
    }
    await expect(batcher.submit(text, [4])).rejects.toMatchObject({ code: 'model_unavailable' })
    inference.ready = true
    const later = batcher.submit(text, [5])
    await inference.release()
    expect((await later).results).toEqual([50])
  })
})
