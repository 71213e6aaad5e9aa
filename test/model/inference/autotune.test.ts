import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import {
  largestBatch,
  smallestLimits,
  searchOnCpu,
  searchOnDevice,
} from '../../../src/model/inference/autotune.js'
import type { GraphSpec, Tensors } from '../../../src/model/onnx/graph-inputs.js'

const spec: GraphSpec = {
  file: 'a.onnx',
  precision: 'fp32',
  inputs: { token_ids: { type: 'int64', shape: [null, null] } },
  outputs: {},
}

let clock = 0

beforeEach(() => {
  vi.spyOn(performance, 'now').mockImplementation(() => clock)
})

afterEach(() => {
  vi.restoreAllMocks()
})

/**
 * Stands for a device: a batch takes `milliseconds(rows)`, and rows × tokens beyond `memory` do not
 * fit.
 */
function device(
  memory: number,
  milliseconds: (rows: number) => number,
): { run: (inputs: Tensors) => Promise<void>; seen: string[] } {
  const seen: string[] = []
  const run = ({ token_ids: ids }: Tensors): Promise<void> => {
    const [rows = 0, tokens = 0] = ids?.dims ?? []
    seen.push(`${rows} × ${tokens}`)
    clock += milliseconds(rows)
    return rows * tokens > memory
      ? Promise.reject(new Error('Failed to allocate memory'))
      : Promise.resolve()
  }
  return { run, seen }
}

/** The more rows, the cheaper each. */
const parallel = (): number => 10

describe('the largest batch', () => {
  it('is eight times the least where the memory holds it and each doubling pays', async () => {
    const { run, seen } = device(Infinity, parallel)
    expect(await largestBatch('image', spec, searchOnDevice(5), run)).toMatchObject({ limit: 64 })
    expect(seen).toEqual([
      '1 × 1',
      ...['1 × 5', '8 × 5', '16 × 5', '32 × 5', '64 × 5'].flatMap((size) => [
        size,
        size,
        size,
        size,
      ]),
    ])
  })

  it('is what the memory holds, by the longest texts', async () => {
    expect(
      await largestBatch('text', spec, searchOnDevice(10), device(32 * 10 * 3, parallel).run),
    ).toMatchObject({ limit: 640 })
  })

  it('is the least where more rows make none cheaper', async () => {
    const { run } = device(Infinity, (rows) => rows * 4)
    expect(await largestBatch('image', spec, searchOnDevice(5), run)).toMatchObject({
      limit: 8,
      pace: 4,
      overhead: 0,
    })
    expect(await largestBatch('image', spec, searchOnCpu(2), run)).toEqual({
      limit: 1,
      pace: 4,
      overhead: 0,
    })
  })

  it('is the same where a run of it took longer because of what else the machine did', async () => {
    let runs = 0
    // Of the batches of one row those that are timed are the third, the fourth and the fifth run.
    const { run } = device(Infinity, (rows) => rows * 4 + ((runs += 1) === 3 ? 40 : 0))
    expect(await largestBatch('image', spec, searchOnCpu(2), run)).toMatchObject({
      limit: 1,
      pace: 4,
    })
  })

  it('must not be less than the least', async () => {
    await expect(
      largestBatch('fusion', spec, searchOnDevice(5), device(60 * 5, parallel).run),
    ).rejects.toThrow('allocate memory')
  })
})

describe('the overhead of a batch', () => {
  it('is counted in what fills it', async () => {
    // A row of any length takes 2 ms, and a batch 6 ms in addition.
    const { run } = device(Infinity, (rows) => 6 + rows * 2)
    const { limit, overhead } = await largestBatch('text', spec, searchOnCpu(2), run)
    expect(limit).toBe(32 * 16)
    expect(overhead).toBeCloseTo(3 * 16)
  })

  it('is measured with the longest text of a model that reads fewer tokens than usual', async () => {
    const { run } = device(Infinity, (rows) => 6 + rows * 2)
    const { limit } = await largestBatch('text', spec, searchOnCpu(2, 8), run)
    expect(limit).toBe(32 * 8)
  })

  it('is beyond any count where more rows take no longer', async () => {
    expect(
      await largestBatch('text', spec, searchOnDevice(16), device(Infinity, parallel).run),
    ).toMatchObject({ overhead: Infinity })
  })
})

it('of several devices the smallest one counts, for each graph', () => {
  expect(
    smallestLimits([
      { image: 64, text: 32, fusion: 512, tokens: 64 },
      { image: 8, text: 256, fusion: 512, tokens: 8 },
    ]),
  ).toEqual({ image: 8, text: 32, fusion: 512, tokens: 8 })
})
