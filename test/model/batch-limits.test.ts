import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { largestBatch, leastOf } from '../../src/model/batch-limits.js'
import type { GraphSpec, Tensors } from '../../src/model/graphs.js'

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

/** Stands for a device: a batch takes `milliseconds(rows)`, and rows × tokens beyond `memory` do not fit. */
function device(memory: number, milliseconds: (rows: number) => number): { run: (inputs: Tensors) => Promise<void>; seen: string[] } {
  const seen: string[] = []
  const run = ({ token_ids: ids }: Tensors): Promise<void> => {
    const [rows = 0, tokens = 0] = ids?.dims ?? []
    seen.push(`${rows} × ${tokens}`)
    clock += milliseconds(rows)
    return rows * tokens > memory ? Promise.reject(new Error('Failed to allocate memory')) : Promise.resolve()
  }
  return { run, seen }
}

/** The more rows, the cheaper each. */
const parallel = (): number => 10

describe('the largest batch', () => {
  it('is eight times the least where the memory holds it and each doubling pays', async () => {
    const { run, seen } = device(Infinity, parallel)
    expect(await largestBatch('image', spec, 5, run)).toBe(64)
    expect(seen).toEqual(['1 × 1', ...['8 × 5', '16 × 5', '32 × 5', '64 × 5'].flatMap((size) => [size, size])])
  })

  it('is what the memory holds, by the longest texts', async () => {
    expect(await largestBatch('text', spec, 10, device(32 * 10 * 3, parallel).run)).toBe(64)
  })

  it('is the least where more rows make none cheaper', async () => {
    expect(await largestBatch('image', spec, 5, device(Infinity, (rows) => rows * 4).run)).toBe(8)
  })

  it('must not be less than the least', async () => {
    await expect(largestBatch('fusion', spec, 5, device(60 * 5, parallel).run)).rejects.toThrow('allocate memory')
  })
})

it('of several devices the smallest one counts, for each graph', () => {
  expect(leastOf([{ image: 64, text: 32, fusion: 512 }, { image: 8, text: 256, fusion: 512 }])).toEqual({ image: 8, text: 32, fusion: 512 })
})
