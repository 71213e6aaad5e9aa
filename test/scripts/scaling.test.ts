import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import type { Assumptions, Figures } from '../../bench/scaling/figures.js'
import { sizingOf } from '../../bench/scaling/sizing.js'
import { page, writtenPage } from '../../bench/scaling/written-page.js'

const DAYS = 2
const figures: Figures = {
  measured: {
    on: '2026-01-01',
    processor: 'none',
    cores: 1,
    node: '20',
    bundle: 'made-up',
    photos: 'none',
  },
  dim: 256,
  candidates: 10,
  add: { server: 0.01, 'decoder-worker': 0.03, 'inference-worker': 0.06, 'hnsw-worker': 0.001 },
  text: 0.01,
  search: {
    items: 100,
    rerank: { server: 0.01, 'inference-worker': 0.09 },
    similarity: { server: 0.01, 'inference-worker': 0.01 },
  },
  hnsw: { items: 1000, insert: 0.001, search: 0.001, bytes_an_item: 1024 },
  bytes: { image_tokens: 3072, item: 5000, image: 20_000 },
  image_encoder_gflop: 3.6,
}
const assumptions: Assumptions = {
  sizes: [],
  utilisation: 0.5,
  days_to_index: DAYS,
  machine: { cores: 10, memory_gib: 4, disk_tib: 1 },
  engine: { replicas: 2, memory_factor: 1.5, segment_gib: 1 },
  gpu: { name: 'made-up', effective_tflops: 1 },
  prices: {
    core_hour: 1,
    gib_hour: 0,
    disk_gib_month: 0,
    object_gib_month: 0,
    object_put_per_thousand: 0.5,
    gpu_hour: 10,
  },
}
const needOf = (needs: { of: string; machines: number }[], of: RegExp): number | undefined =>
  needs.find((need) => of.test(need.of))?.machines

describe('docs/scaling.md', () => {
  it('has the tables of its figures and assumptions (npm run scaling writes them)', () => {
    expect(readFileSync(page, 'utf8')).toBe(writtenPage())
  })

  it('has a column and a section for each size', () => {
    const text = readFileSync(page, 'utf8')
    for (const items of ['10⁶ items', '10⁸ items', '10¹⁰ items'])
      expect(text.split(items).length).toBeGreaterThan(2)
  })
})

describe('a sizing', () => {
  it('is embedded if one machine holds the index', () => {
    const { engine, bytes, queries, cost } = sizingOf(1_000_000, 1, figures, assumptions)
    expect(engine).toBe('embedded')
    expect(bytes).toMatchObject({
      vectors: 1_024_000_000,
      imageTokens: 3_072_000_000,
      images: 20_000_000_000,
    })
    // 0.1 s in Tandem, and 0.001 s that have doubled from a thousand to a million items.
    expect(queries.coreSeconds).toBeCloseTo(0.102)
    // A core is the least that is paid for: 730 hours for 730 × 3600 searches.
    expect(cost.perThousandQueries).toBeCloseTo(1000 / 3600)
  })

  it('names the first limit', () => {
    const { embedded } = sizingOf(1_000_000, 1, figures, assumptions)
    // 10⁶ × 0.102 s in two days of 10 cores that are half busy.
    expect(needOf(embedded, /encode and index/)).toBeCloseTo(
      (1e6 * 0.102) / (DAYS * 86_400 * 10 * 0.5),
    )
    expect(needOf(embedded, /memory/)).toBeCloseTo((1.5 * 1_024_000_000) / (4 * 2 ** 30))
    expect(needOf(embedded, /thread that recalls/)).toBeCloseTo(0.002 / 0.5)
    expect(embedded.map(({ machines }) => machines)).toEqual(
      embedded.map(({ machines }) => machines).sort((a, b) => b - a),
    )
    const busy = sizingOf(1_000_000, 1000, figures, assumptions)
    expect(busy.embedded[0]?.of).toBe('cores for searches')
  })

  it('is a cluster if one machine cannot hold the index; it searches every segment', () => {
    const { engine, queries, indexing, cost, bytes } = sizingOf(
      100_000_000,
      100,
      figures,
      assumptions,
    )
    expect(engine).toBe('Milvus')
    // Rows of 1024 bytes and 3072 as base64: 209,715 in a segment, and 477 segments.
    const each = (0.001 * Math.log(209_715)) / Math.log(1000)
    expect(queries).toMatchObject({
      segments: 477,
      engineCoreSeconds: expect.closeTo(477 * each) as number,
    })
    // 3 times the vectors, 4 GiB a machine; its cores: 100 × 0.69 s, 10 cores half busy.
    expect(bytes.engineMemory).toBe(3 * 102_400_000_000)
    expect(queries.engineNodes).toBe(72)
    expect(queries.replicas).toBe(2)
    // 10⁸ × 3.6 GFLOP at 1 TFLOP/s are 100 hours; 48 hours half busy, so 5 cards, and cores for the
    // rest of the work.
    expect(indexing).toMatchObject({ gpuHours: expect.closeTo(100) as number, gpus: 5 })
    expect(indexing.coresBesideGpus).toBe(Math.ceil((1e8 * 0.04) / (DAYS * 86_400) / 0.5))
    // Each image is stored once in the bucket.
    expect(cost.indexing - indexing.coreHours).toBeCloseTo(50_000)
  })
})
