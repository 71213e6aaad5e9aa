import { describe, expect, it } from 'vitest'
import { planProcesses } from '../../../src/model/inference/process-plan.js'

const MIB = 2 ** 20
const GIB = 2 ** 30
const small = { memory: 200 * MIB, image: 22 }

describe('the threads of inference', () => {
  it('are a process each', () => {
    expect(planProcesses(1, 8 * GIB, small)).toEqual({ processes: 1, threads: 1 })
    expect(planProcesses(2, 8 * GIB, small)).toEqual({ processes: 2, threads: 1 })
    expect(planProcesses(16, 64 * GIB, small)).toEqual({ processes: 16, threads: 1 })
  })

  it('share processes where the memory holds fewer', () => {
    expect(planProcesses(16, 2 * GIB, small)).toEqual({ processes: 5, threads: 3 })
    expect(planProcesses(2, 300 * MIB, small)).toEqual({ processes: 1, threads: 2 })
  })

  it('share processes where an image would take too long on one of them', () => {
    expect(planProcesses(8, 64 * GIB, { memory: GIB, image: 900 })).toEqual({
      processes: 2,
      threads: 4,
    })
    expect(planProcesses(2, 64 * GIB, { memory: GIB, image: 5000 })).toEqual({
      processes: 1,
      threads: 2,
    })
  })
})
