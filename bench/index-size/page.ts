/** What docs/benchmarks.md says of the sizes of an index. */
import type { TopLevelSpec } from 'vega-lite'

export interface Compared {
  /** Milliseconds. */
  p50: number
  p99: number
  /** To those of the smallest index, measured in turns with this one. */
  p50_ratio: number
  p99_ratio: number
}

export interface Size {
  items: number
  /** Of the process of the graph, for all items. */
  core_seconds: number
  load_seconds: number
  /** Memory of the process of the graph after loading. */
  bytes: number
  /** Of the embeddings as float32 and the links that M allows. */
  implied_bytes: number
  recall_at_10: number
  recall_at_64: number
  index: Compared
  /** From the text to the ids; null in a smoke run. */
  search: Compared | null
  standstill_loading_ms: number
  standstill_searching_ms: number
}

export interface Figures {
  dim: number
  m: number
  candidates: number
  queries: number
  sizes: Size[]
}

const whole = (value: number): string => Math.round(value).toLocaleString('en')
const ratio = (value: number): string => value.toFixed(2)
const ms = (value: number): string => `${value.toFixed(value < 10 ? 2 : 1)} ms`

export function page({ dim, m, candidates, queries, sizes }: Figures): string {
  const largest = sizes.at(-1) as Size
  return `Embeddings of ${dim} values: those of 7,091 photos of Flickr8k, extended by noise (each further one is a real one moved along
the difference of two others); queries are ${queries} embeddings of captions, so that they lie apart from the items as those of
users do. HNSW with M ${m} in a process of its own, one search at a time for ${candidates} candidates; ef follows from the recall
asked for, .99. "Search" is from a text to the ids of its nearest items, without rerank. Ratios are to
${whole(sizes[0]?.items ?? 0)} items, measured in turns.

| items | built, core-seconds | loaded | memory | of what precision and M imply | recall@10 | recall@64 | index p50 | index p99 | search p50 | search p99 | search, times the smallest: p50 | p99 |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
${sizes.map(line).join('\n')}

The index alone takes ${ratio(largest.index.p50_ratio)} times as long among ${whole(largest.items)} items at p50 (p99 ${ratio(largest.index.p99_ratio)}): the same recall asks for a wider
search, and memory is slower than caches. The event loop stood still for ${whole(Math.max(...sizes.map((size) => size.standstill_loading_ms)))} ms at most while an index was loaded, and for
${whole(Math.max(...sizes.map((size) => size.standstill_searching_ms)))} ms while it was searched.

![Latency, memory and core-seconds by the number of items](benchmarks/index-size.png)`
}

function line(size: Size): string {
  const { index, search } = size
  const cells = [
    whole(size.items),
    whole(size.core_seconds),
    `${size.load_seconds.toFixed(1)} s`,
    `${whole(size.bytes / 2 ** 20)} MiB`,
    ratio(size.bytes / size.implied_bytes),
    size.recall_at_10.toFixed(4),
    size.recall_at_64.toFixed(4),
    ms(index.p50),
    ms(index.p99),
    ...(search === null
      ? ['', '', '', '']
      : [ms(search.p50), ms(search.p99), ratio(search.p50_ratio), ratio(search.p99_ratio)]),
  ]
  return `| ${cells.join(' | ')} |`
}

export function plots({ sizes }: Figures): Record<string, TopLevelSpec> {
  const points = (of: (size: Size) => [string, number | undefined][]) =>
    sizes.flatMap((size) =>
      of(size).flatMap(([what, value]) =>
        value === undefined ? [] : [{ items: size.items, what, value }],
      ),
    )
  const panel = (title: string, values: ReturnType<typeof points>) => ({
    title,
    width: 260,
    height: 200,
    data: { values },
    mark: { type: 'line' as const, point: true },
    encoding: {
      x: {
        field: 'items',
        type: 'quantitative' as const,
        scale: { type: 'log' as const },
        axis: { format: '~s' },
      },
      y: { field: 'value', type: 'quantitative' as const, title: null },
      color: {
        field: 'what',
        type: 'nominal' as const,
        title: null,
        legend: { orient: 'bottom' as const },
      },
    },
  })
  return {
    'index-size': {
      $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
      resolve: { scale: { color: 'independent' } },
      hconcat: [
        panel(
          'milliseconds',
          points(({ index, search }) => [
            ['index p50', index.p50],
            ['index p99', index.p99],
            ['search p50', search?.p50],
            ['search p99', search?.p99],
          ]),
        ),
        panel(
          'memory, MiB',
          points(({ bytes, implied_bytes: implied }) => [
            ['measured', bytes / 2 ** 20],
            ['implied', implied / 2 ** 20],
          ]),
        ),
        panel(
          'core-seconds to build',
          points(({ core_seconds: seconds }) => [['built', seconds]]),
        ),
      ],
    },
  }
}
