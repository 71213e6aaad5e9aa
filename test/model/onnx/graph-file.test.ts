import { readFileSync } from 'node:fs'
import { describe, expect, it, vi } from 'vitest'
import { checkGraphFile } from '../../../src/model/onnx/graph-file.js'

vi.setConfig({ testTimeout: 60_000 })

/** A protocol buffer of length-delimited fields: number and content, one after the other. */
function message(...fields: [number, string | Buffer][]): Buffer {
  return Buffer.concat(
    fields.map(([field, content]) => {
      const bytes = Buffer.from(content)
      return Buffer.concat([varint(field * 8 + 2), varint(bytes.length), bytes])
    }),
  )
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest])
    bytes.push((rest % 128) + 128)
  }
}

const external = message([8, 'weights'], [13, message([1, 'location'], [2, '../../etc/passwd'])])
function nestedGraphs(levels: number): Buffer {
  let graph = message([2, 'innermost'])
  for (let level = 0; level < levels; level += 1)
    graph = message([1, message([5, message([6, graph])])])
  return message([7, graph])
}

const node = (...fields: [number, string | Buffer][]): Buffer =>
  message([1, 'x'], [4, 'MatMul'], ...fields)

describe('a graph file', () => {
  it.each(['image', 'text', 'fusion'])('of the tiny bundle is fine: %s', (name) => {
    const bytes = readFileSync(
      new URL(`../../fixtures/tiny-bundle/${name}-encoder.onnx`, import.meta.url),
    )
    expect(() => checkGraphFile(bytes, 'a.onnx')).not.toThrow()
  })

  it('may use quantised operators of the runtime', () => {
    expect(() =>
      checkGraphFile(message([7, message([1, node([7, 'com.microsoft'])])]), 'a.onnx'),
    ).not.toThrow()
  })

  it.each<[string, RegExp, Buffer]>([
    [
      'weights in another file',
      /a\.onnx has weights in another file/,
      message([7, message([5, external])]),
    ],
    [
      'such weights in an attribute',
      /another file/,
      message([7, message([1, node([5, message([5, external])])])]),
    ],
    [
      'such weights in a graph inside an attribute',
      /another file/,
      message([7, message([1, node([5, message([6, message([5, external])])])])]),
    ],
    [
      'such weights in a sparse tensor',
      /another file/,
      message([7, message([15, message([1, external])])]),
    ],
    [
      'such weights in a function',
      /another file/,
      message([25, message([7, node([5, message([5, external])])])]),
    ],
    [
      'an operator that runs another file',
      /the operator EPContext/,
      message([7, message([1, message([4, 'EPContext'], [7, 'com.microsoft'])])]),
    ],
    [
      'the format of the runtime itself',
      /in the format of the runtime/,
      Buffer.from('\u0012\u0008\u0000\u0000ORTM and the rest'),
    ],
    [
      'such weights in a field whose key has a bit too many',
      /not an ONNX file/,
      message([
        7,
        message([5, Buffer.concat([varint(2 ** 32 + 13 * 8 + 2), varint(2), Buffer.from('xx')])]),
      ]),
    ],
    ['graphs in one another without end', /nested too deeply/, nestedGraphs(200)],
    ['a field of a kind that is no more', /not an ONNX file/, Buffer.from([0x3b, 0x3c])],
    [
      'operators of somebody else',
      /operators of "evil\.ops"/,
      message([7, message([1, node([7, 'evil.ops'])])]),
    ],
    [
      'another kind of file',
      /not a graph that can be run/,
      Buffer.from('%PDF-1.7 and so on, for some more bytes'),
    ],
    ['a field that is cut off', /cut off/, message([7, message([5, 'weights'])]).subarray(0, 6)],
  ])('is refused with %s', (_, sentence, bytes) => {
    expect(() => checkGraphFile(bytes, 'a.onnx')).toThrow(sentence)
  })
})
