import { PassThrough } from 'node:stream'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { benchModel, benchModelLines, type BenchModelReport } from '../../src/cli/bench-model.js'
import { packageFolder, readConfig } from '../../src/config.js'

vi.setConfig({ testTimeout: 60_000 })

const quiet = { out: new PassThrough(), err: new PassThrough() }
const fixture = (name: string): string => join(packageFolder, 'test', 'fixtures', name)

describe('bench-model', () => {
  it('measures each graph of both bundles, two for a dual encoder', async () => {
    const options = { against: fixture('tiny-dual-bundle'), images: 1, rounds: 1 }
    const { bundles, speeds, recall } = await benchModel(
      fixture('tiny-bundle'),
      options,
      readConfig({}),
      quiet,
    )
    expect(bundles.map(({ precisions }) => precisions)).toEqual([['fp32'], ['fp32']])
    const graphs = new Map(speeds.map(({ graph, milliseconds }) => [graph, milliseconds.length]))
    expect(Object.fromEntries(graphs)).toEqual({ image: 2, text: 2, fusion: 1 })
    expect(speeds.flatMap(({ milliseconds }) => milliseconds).every((median) => median > 0)).toBe(
      true,
    )
    expect(recall).toEqual([])
  })

  it('refuses a folder without a bundle', async () => {
    await expect(
      benchModel(fixture('nothing'), { images: 1, rounds: 1 }, readConfig({}), quiet),
    ).rejects.toThrow('There is no model bundle in')
  })
})

describe('benchModelLines', () => {
  const recall = (r1: number) => ({ r1, r5: r1 + 10, r10: r1 + 20 })
  const found = (r1: number): BenchModelReport['recall'][number] => ({
    bundle: 'b',
    images: 2,
    captions: 10,
    candidates: 64,
    text_to_image: { similarity: recall(r1), rerank: recall(r1 + 1) },
    image_to_text: { similarity: recall(r1 + 2), rerank: recall(r1 + 3) },
  })
  const bundle = (name: string, precision: string) => ({
    name,
    version: '1.0.0',
    precisions: [precision],
  })

  it('prints the speed-up and the difference in recall of the first bundle', () => {
    const lines = benchModelLines({
      bundles: [bundle('small', 'int8'), bundle('large', 'fp32')],
      speeds: [{ graph: 'text', rows: 8, threads: 2, milliseconds: [4, 10] }],
      recall: [found(20), found(21.5)],
    })
    expect(lines[0]).toBe('small 1.0.0 (int8), against large 1.0.0 (fp32)')
    expect(lines.find((line) => line.startsWith('text '))?.split(/\s+/)).toEqual([
      'text',
      '2',
      '8',
      '4.0',
      '10.0',
      '2.50×',
    ])
    expect(
      lines
        .find((line) => line.startsWith('image→text, rerank R@5'))
        ?.split(/\s+/)
        .slice(-3),
    ).toEqual(['33.0', '34.5', '-1.5'])
  })

  it('prints no comparison for one bundle', () => {
    const lines = benchModelLines({
      bundles: [bundle('small', 'int8')],
      speeds: [{ graph: 'fusion', rows: 64, threads: 1, milliseconds: [4] }],
      recall: [found(20)],
    })
    expect(lines[0]).toBe('small 1.0.0 (int8)')
    expect(lines.find((line) => line.startsWith('fusion'))?.split(/\s+/)).toEqual([
      'fusion',
      '1',
      '64',
      '4.0',
    ])
    expect(
      lines
        .find((line) => line.startsWith('text→image, rerank R@1'))
        ?.split(/\s+/)
        .slice(-2),
    ).toEqual(['R@1', '21.0'])
  })
})
