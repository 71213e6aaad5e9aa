import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, vi } from 'vitest'
import { computesInHalf } from '../../../src/model/onnx/half-precision.js'

vi.setConfig({ testTimeout: 60_000 })

const fixtures = fileURLToPath(new URL('../../fixtures', import.meta.url))
const isHalf = (...path: string[]): boolean =>
  computesInHalf(readFileSync(join(fixtures, ...path)), path.at(-1) ?? '')

describe('a graph', () => {
  it.each(['half-weight', 'half-constant', 'half-between', 'half-branch'])(
    'computes in half precision: %s',
    (name) => {
      expect(isHalf('strange-graphs', `${name}.onnx`)).toBe(true)
    },
  )

  it('does not where float16 is what a weight is stored as, and cast', () => {
    expect(isHalf('strange-graphs', 'stored-as-half.onnx')).toBe(false)
  })

  it('does not in a bundle for the CPU', () => {
    const folders = [
      join(fixtures, 'tiny-bundle'),
      fileURLToPath(new URL('../../../models/tandem-small', import.meta.url)),
    ]
    const graphs = folders.flatMap((folder) =>
      readdirSync(folder)
        .filter((name) => name.endsWith('.onnx'))
        .map((name) => join(folder, name)),
    )
    expect(graphs.length).toBeGreaterThanOrEqual(6)
    expect(graphs.filter((path) => computesInHalf(readFileSync(path), path))).toEqual([])
  })
})
