/**
 * Measured figures and assumptions of docs/scaling.md. Times are core-seconds, sizes bytes.
 */
import type { CoreSeconds } from '../core-time.js'

/** `figures.json`, written by measure.ts. */
export interface Figures {
  measured: {
    on: string
    processor: string
    cores: number
    node: string
    bundle: string
    photos: string
  }
  dim: number
  candidates: number
  /** Of an image that is added over HTTP, by process. */
  add: CoreSeconds
  /** Of a text among 32 that are embedded in one request. */
  text: number
  /** Of a search over `search_items` items, with and without rerank of all candidates. */
  search: { items: number; rerank: CoreSeconds; similarity: CoreSeconds }
  /** Of the embedded HNSW alone, when it holds `items`. */
  hnsw: { items: number; insert: number; search: number; bytes_an_item: number }
  /** Of the item store: everything but the image, and the image as it is kept. */
  bytes: { image_tokens: number; item: number; image: number }
  /** Multiplications and additions of the image encoder for one image, in billions. */
  image_encoder_gflop: number
}

/** `assumptions.json`: not measured, for planners to change. */
export interface Assumptions {
  /** One for each column of the page. */
  sizes: { items: number; queries_a_second: number }[]
  /**
   * The share of a core or disk that is planned with; the rest is for peaks and for the loss of a
   * replica.
   */
  utilisation: number
  /** How long indexing everything may take. */
  days_to_index: number
  /** One machine, for one process or for a node of the engine. */
  machine: { cores: number; memory_gib: number; disk_tib: number }
  engine: {
    /** Copies of each segment in memory. */
    replicas: number
    /** Memory for what grows, is merged or is no vector, beside vectors and graph. */
    memory_factor: number
    /** Of rows, embeddings and image tokens together: each segment is searched for every query. */
    segment_gib: number
  }
  gpu: { name: string; effective_tflops: number }
  prices: {
    core_hour: number
    gib_hour: number
    disk_gib_month: number
    object_gib_month: number
    object_put_per_thousand: number
    gpu_hour: number
  }
}
