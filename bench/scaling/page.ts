/** The tables of docs/scaling.md. */
import { total, type CoreSeconds } from '../core-time.js'
import type { Assumptions, Figures } from './figures.js'
import { GIB, sizingOf, TIB, type Need, type Sizing } from './sizing.js'

/** What stands between `<!-- name:begin -->` and `<!-- name:end -->` of the page, by name. */
export function tablesOf(figures: Figures, assumptions: Assumptions): Record<string, string[]> {
  const sizings = assumptions.sizes.map((size) =>
    sizingOf(size.items, size.queries_a_second, figures, assumptions),
  )
  return {
    measured: measured(figures),
    assumed: assumed(assumptions),
    sizing: sizing(sizings, assumptions),
    'breaks-first': sizings.flatMap(breaking),
  }
}

function measured({ measured: how, ...figures }: Figures): string[] {
  const { add, search, hnsw, bytes, dim } = figures
  const pair = (total(search.rerank) - total(search.similarity)) / figures.candidates
  const model = (cost: CoreSeconds): number => cost['inference-worker'] ?? 0
  return [
    `Bundle ${how.bundle} (${dim} numbers an embedding), ${how.photos}; ${how.processor}, ${how.cores} cores, ` +
      `Node ${how.node}, ${how.on}.`,
    '',
    '| | core-milliseconds | a second and core |',
    '|---|---:|---:|',
    rate('an image added over HTTP', total(add)),
    rate('– of it the image encoder', model(add)),
    rate('– of it decoding and shrinking', add['decoder-worker'] ?? 0),
    rate('a text embedded, 32 in a request', figures.text),
    rate('a search without rerank', total(search.similarity)),
    rate(`a search with rerank of ${figures.candidates} candidates`, total(search.rerank)),
    rate('– of it each pair', pair),
    rate(`an insert into an HNSW of ${short(hnsw.items)} items`, hnsw.insert),
    rate('a search of that HNSW', hnsw.search),
    '',
    `An item takes ${hnsw.bytes_an_item} bytes in the memory of the HNSW, ${bytes.item} bytes in the store, of which ` +
      `${bytes.image_tokens} are image tokens at int8, and ${bytes.image} bytes for its image. The image encoder takes ` +
      `${figures.image_encoder_gflop} GFLOP an image, counted in its graph.`,
  ]
}

function rate(what: string, coreSeconds: number): string {
  return `| ${what} | ${short(1000 * coreSeconds)} | ${short(1 / coreSeconds)} |`
}

function assumed({
  machine,
  engine,
  gpu,
  prices,
  utilisation,
  days_to_index: days,
}: Assumptions): string[] {
  return [
    `- A machine has ${machine.cores} cores, ${machine.memory_gib} GiB of memory and ${machine.disk_tib} TiB of disk; cores and ` +
      `disks are planned to be ${100 * utilisation} % busy.`,
    `- Everything is to be indexed within ${days} days.`,
    `- An index needs ${engine.memory_factor} times what vectors and graph take, for what grows beside them. Milvus keeps ` +
      `${engine.replicas} copies of each segment in memory, and seals segments at ${engine.segment_gib} GiB of embeddings and image tokens (base64). ` +
      `The tokens are mapped from the disks of its nodes.`,
    `- Every search is reranked.`,
    `- A GPU does ${gpu.effective_tflops} TFLOP/s in practice: what 1,500 images a second through ViT-B/32 (8.8 GFLOP) on an ` +
      `${gpu.name} come to, as clip-retrieval reports; an encoder of depthwise convolutions may reach a fraction of it. No GPU was ` +
      `at hand: GPU-hours are computed, not measured.`,
    `- Prices in dollars: ${prices.core_hour} a core and hour, ${prices.gib_hour} a GiB of memory and hour, ${prices.disk_gib_month} ` +
      `a GiB of disk and month, ${prices.object_gib_month} a GiB in an object store and month, ${prices.object_put_per_thousand} a ` +
      `thousand objects stored, ${prices.gpu_hour} a GPU and hour. No discounts, no traffic, nobody's wages.`,
  ]
}

function sizing(sizings: readonly Sizing[], { gpu, machine }: Assumptions): string[] {
  const row = (name: string, of: (one: Sizing) => string): string =>
    `| ${name} | ${sizings.map(of).join(' | ')} |`
  return [
    row('', ({ items }) => `${power(items)} items`),
    `|---|${sizings.map(() => '---:|').join('')}`,
    row('searches a second (assumed)', ({ queriesASecond }) => short(queriesASecond)),
    row('collection', ({ engine }) => engine),
    row('vectors and graph, one copy', ({ bytes }) => size(bytes.vectors)),
    row('memory for them, all copies', ({ bytes, engine }) =>
      size(engine === 'Milvus' ? bytes.engineMemory : bytes.vectors),
    ),
    row('image tokens at int8', ({ bytes }) => size(bytes.imageTokens)),
    row('items in all, without images', ({ bytes }) => size(bytes.items)),
    row('images', ({ bytes }) => size(bytes.images)),
    row('segments searched for a query', ({ queries }) => short(queries.segments)),
    row('core-milliseconds a search, Tandem', ({ queries }) => short(1000 * queries.coreSeconds)),
    row('core-milliseconds a search, engine', ({ queries, engine }) =>
      engine === 'Milvus' ? short(1000 * queries.engineCoreSeconds) : 'within',
    ),
    row(`replicas of Tandem for searches, ${machine.cores} cores each`, ({ queries }) =>
      short(queries.replicas),
    ),
    row('nodes of the engine', ({ queries }) =>
      queries.engineNodes === 0 ? 'none' : short(queries.engineNodes),
    ),
    row('core-hours to encode and index', ({ indexing }) => short(indexing.coreHours)),
    row(`GPU-hours instead (${gpu.name}, computed)`, ({ indexing }) => short(indexing.gpuHours)),
    row(
      '– GPUs, and cores beside them that decode',
      ({ indexing }) => `${short(indexing.gpus)}, and ${short(indexing.coresBesideGpus)}`,
    ),
    row('dollars to index, by cores', ({ cost }) => short(cost.indexing)),
    row('– with GPUs for the image encoder', ({ cost }) => short(cost.indexingByGpus)),
    row('dollars a month', ({ cost }) => short(cost.month)),
    row('dollars a thousand searches', ({ cost }) => cost.perThousandQueries.toPrecision(2)),
  ]
}

function breaking({ items, queriesASecond, engine, embedded, cluster }: Sizing): string[] {
  const needs = engine === 'embedded' ? embedded : cluster
  const [first] = embedded
  const table = (rows: readonly Need[]): string[] => [
    "| machines' worth of | needed |",
    '|---|---:|',
    ...rows.map(
      ({ of, machines }) => `| ${of} | ${machines < 0.01 ? '< 0.01' : short(machines)} |`,
    ),
    '',
  ]
  const [most] = needs
  if (first === undefined || most === undefined)
    throw new Error('there is nothing that could break')
  const verdict =
    engine === 'embedded'
      ? `One process is enough. What breaks first as it grows: **${first.of}**.`
      : `One process is not enough: ${first.of} would take ${short(first.machines)} machines. ` +
        `With Milvus what breaks first, and takes the most machines, is **${most.of}**.`
  return [
    `### ${power(items)} items, ${short(queriesASecond)} searches a second`,
    '',
    verdict,
    '',
    ...table(needs),
  ]
}

/** 10⁶ rather than 1,000,000. */
function power(items: number): string {
  const exponent = Math.log10(items)
  return Number.isInteger(exponent)
    ? `10${[...String(exponent)].map((digit) => '⁰¹²³⁴⁵⁶⁷⁸⁹'[Number(digit)]).join('')}`
    : short(items)
}

/** Two or three digits that matter, thousands apart. */
function short(number: number): string {
  if (number === 0) return '0'
  const digits = Number(number.toPrecision(Math.abs(number) < 10 ? 2 : 3))
  return digits.toLocaleString('en-US', { maximumFractionDigits: 4 })
}

function size(bytes: number): string {
  return bytes < TIB ? `${short(bytes / GIB)} GiB` : `${short(bytes / TIB)} TiB`
}
