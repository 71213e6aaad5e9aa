import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, vi } from 'vitest'
import { canPrepack } from '../../../src/model/onnx/mapped-weights.js'
import { MODEL } from '../../../src/model/onnx/onnx-schema.js'

vi.setConfig({ testTimeout: 60_000 })

const FLOAT = 1
const FLOAT16 = 10
const INT64 = 7

/** A model of one weight of these dimensions. */
const model = (dims: number[], type = FLOAT, operator = 'MatMul'): Uint8Array =>
  MODEL.encode({
    graph: { initializer: [{ dims, data_type: type, name: 'w' }], node: [{ op_type: operator }] },
  }).finish()

describe('the weights of a graph are mapped in the layout of the kernels', () => {
  it.each([
    ['not after a bias of 30,522 words', model([30522]), false],
    ['not after one stored as float16, which is cast', model([30522], FLOAT16), false],
    ['not with an operator that crashes', model([384, 384], FLOAT, 'MatMulInteger'), false],
    ['behind a bias of 30,528 words', model([30528]), true],
    ['not after a matrix of 58 columns, which ends within 64 bytes', model([380, 58]), false],
    ['behind a matrix', model([384, 30522]), true],
    ['behind weights that are too small to be mapped', model([255]), true],
    ['behind weights that no kernel lays out', model([30522], INT64), true],
  ])('%s', (_, bytes, expected) => {
    expect(canPrepack(bytes, 'w.onnx')).toBe(expected)
  })

  it('in the bundle of the repository', () => {
    const folder = fileURLToPath(new URL('../../../models/tandem-small', import.meta.url))
    const graphs = readdirSync(folder).filter((name) => name.endsWith('.onnx'))
    expect(graphs.length).toBeGreaterThanOrEqual(3)
    expect(graphs.filter((name) => !canPrepack(readFileSync(join(folder, name)), name))).toEqual([])
  })
})
