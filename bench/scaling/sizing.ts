/**
 * Machines and costs for a number of items, computed from figures and assumptions.
 */
import { total } from '../core-time.js'
import type { Assumptions, Figures } from './figures.js'

export const GIB = 2 ** 30
export const TIB = 2 ** 40
const HOUR_S = 3600
const DAY_S = 86_400
const HOURS_A_MONTH = 730
/** Of an embedding: float32. */
const BYTES_A_NUMBER = 4
/** In a row of Milvus image tokens are base64. */
const BASE64 = 4 / 3

/**
 * One thing that a service runs out of: how many of the assumed machines it takes. Beyond 1 it is
 * too much for one.
 */
export interface Need {
  of: string
  machines: number
}

export interface Sizing {
  items: number
  queriesASecond: number
  /** Embedded, while one machine is enough for everything; then Milvus. */
  engine: 'embedded' | 'Milvus'
  /** Largest first: the first is what breaks first. */
  embedded: Need[]
  cluster: Need[]
  bytes: {
    vectors: number
    engineMemory: number
    imageTokens: number
    items: number
    images: number
  }
  indexing: { coreHours: number; gpuHours: number; gpus: number; coresBesideGpus: number }
  queries: {
    coreSeconds: number
    replicas: number
    segments: number
    engineCoreSeconds: number
    engineNodes: number
  }
  /** In the currency of the prices: to index once, and a month. */
  cost: { indexing: number; indexingByGpus: number; month: number; perThousandQueries: number }
}

/** An HNSW takes more steps the more it holds, with the logarithm. */
function grown(cost: number, from: number, to: number): number {
  return (cost * Math.log(Math.max(to, 2))) / Math.log(from)
}

export function sizingOf(
  items: number,
  queriesASecond: number,
  figures: Figures,
  assumptions: Assumptions,
): Sizing {
  const { machine, engine, gpu, prices, utilisation, days_to_index: days } = assumptions
  const { hnsw, add, search } = figures

  const vectors = items * hnsw.bytes_an_item
  const engineMemory = vectors * engine.replicas * engine.memory_factor
  const bytes = {
    vectors,
    engineMemory,
    imageTokens: items * figures.bytes.image_tokens,
    items: items * figures.bytes.item,
    images: items * figures.bytes.image,
  }

  const encoding = total(add) - (add['hnsw-worker'] ?? 0)
  const inference = add['inference-worker'] ?? 0
  const insert = grown(hnsw.insert, hnsw.items, items)
  const inferenceCoreHours = (items * inference) / HOUR_S
  const coreHours = (items * (encoding + insert)) / HOUR_S
  const aSecond = items / (days * DAY_S)
  const gpuHours = (items * figures.image_encoder_gflop) / (gpu.effective_tflops * 1000) / HOUR_S

  // The index within the service is small where the search was measured: what it costs at this size
  // comes on its own.
  const inTandem = total(search.rerank) - (search.rerank['hnsw-worker'] ?? 0)
  const alone = grown(hnsw.search, hnsw.items, items)
  const row = figures.dim * BYTES_A_NUMBER + figures.bytes.image_tokens * BASE64
  const perSegment = Math.floor((engine.segment_gib * GIB) / row)
  const segments = Math.ceil(items / perSegment)
  const engineCoreSeconds = segments * grown(hnsw.search, hnsw.items, Math.min(items, perSegment))

  const cores = (coreSeconds: number): number => coreSeconds / utilisation / machine.cores
  const memory = machine.memory_gib * GIB
  const disk = machine.disk_tib * TIB * utilisation
  const indexing = cores((coreHours * HOUR_S) / (days * DAY_S))
  const embedded = byNeed([
    { of: 'memory for the index', machines: (vectors * engine.memory_factor) / memory },
    { of: 'disk for items and images', machines: (bytes.items + bytes.images) / disk },
    { of: `cores to encode and index in ${days} days`, machines: indexing },
    {
      of: `the one thread that inserts in ${days} days`,
      machines: (aSecond * insert) / utilisation,
    },
    { of: 'cores for searches', machines: cores(queriesASecond * (inTandem + alone)) },
    { of: 'the one thread that recalls', machines: (queriesASecond * alone) / utilisation },
  ])
  const cluster = byNeed([
    { of: 'memory of the engine for vectors and graph', machines: engineMemory / memory },
    {
      of: 'disk of the engine for image tokens',
      machines: (bytes.imageTokens * BASE64 * engine.replicas) / disk,
    },
    { of: 'cores of the engine for searches', machines: cores(queriesASecond * engineCoreSeconds) },
    { of: 'cores of Tandem for searches', machines: cores(queriesASecond * inTandem) },
    { of: `cores to encode and index in ${days} days`, machines: indexing },
  ])

  const isEmbedded = (embedded[0]?.machines ?? 0) <= 1
  const engineNodes = Math.ceil(
    Math.max(
      ...cluster.filter(({ of }) => of.includes('of the engine')).map(({ machines }) => machines),
    ),
  )
  const tandemMachines = cores(queriesASecond * (isEmbedded ? inTandem + alone : inTandem))
  return {
    items,
    queriesASecond,
    engine: isEmbedded ? 'embedded' : 'Milvus',
    embedded,
    cluster,
    bytes,
    indexing: {
      coreHours,
      gpuHours,
      gpus: Math.ceil(gpuHours / (days * 24) / utilisation),
      coresBesideGpus: Math.ceil((aSecond * (encoding - inference)) / utilisation),
    },
    queries: {
      coreSeconds: inTandem + (isEmbedded ? alone : 0),
      replicas: isEmbedded ? 1 : Math.max(2, Math.ceil(tandemMachines)),
      segments: isEmbedded ? 1 : segments,
      engineCoreSeconds: isEmbedded ? alone : engineCoreSeconds,
      engineNodes: isEmbedded ? 0 : engineNodes,
    },
    cost: costOf(),
  }

  function costOf(): Sizing['cost'] {
    const puts = isEmbedded ? 0 : (items / 1000) * prices.object_put_per_thousand
    const machineHour = machine.cores * prices.core_hour + machine.memory_gib * prices.gib_hour
    const tandemCores = Math.max(1, tandemMachines * machine.cores)
    const compute = isEmbedded
      ? tandemCores * prices.core_hour +
        ((vectors * engine.memory_factor) / GIB + 2) * prices.gib_hour
      : engineNodes * machineHour + tandemCores * (prices.core_hour + 2 * prices.gib_hour)
    const disks = isEmbedded
      ? bytes.items + bytes.images
      : bytes.imageTokens * BASE64 * engine.replicas
    // The engine keeps its own truth in an object store, beside the images.
    const objects = isEmbedded ? 0 : bytes.images + bytes.items
    const month =
      compute * HOURS_A_MONTH +
      (disks / GIB) * prices.disk_gib_month +
      (objects / GIB) * prices.object_gib_month
    return {
      indexing: coreHours * prices.core_hour + puts,
      indexingByGpus:
        (coreHours - inferenceCoreHours) * prices.core_hour + gpuHours * prices.gpu_hour + puts,
      month,
      perThousandQueries: (month / (queriesASecond * HOURS_A_MONTH * HOUR_S)) * 1000,
    }
  }
}

function byNeed(needs: Need[]): Need[] {
  return needs.sort((one, other) => other.machines - one.machines)
}
