/**
 * The process that owns the graph: searching and adding block, so they must not run where requests are served, and what
 * hnswlib does not survive ends this process alone. Commands are answered one after the other, in the order in which
 * they came.
 */
import { answerCalls } from '../worker-process.js'
import { HnswGraph } from './hnsw-graph.js'

/** Every command and what it is answered with. */
export interface Commands {
  /** Begins with an empty graph, or the one in `file`, of whose labels so many are deleted. Answers the labels in it. */
  open: { ask: { dim: number; saved: { file: string; deleted: number } | null }; answer: number }
  /** Adds, then marks as deleted, as one step. */
  change: { ask: { labels: number[]; packed: Float32Array; deleted: number[] }; answer: null }
  search: { ask: { embedding: Float32Array; candidates: number }; answer: { labels: number[]; similarities: number[] } }
  /** Answers the SHA-256 of the file. */
  save: { ask: { file: string }; answer: string }
  /** Begins a second graph beside the one in use. */
  'begin-compaction': { ask: { capacity: number }; answer: null }
  /** Copies some embeddings into the second graph. */
  'copy-for-compaction': { ask: { from: number[]; to: number[] }; answer: null }
  /** Puts the second graph in the place of the first. */
  'end-compaction': { ask: { deleted: number[] }; answer: null }
}

let graph: HnswGraph | null = null
let successor: HnswGraph | null = null
let dim = 0

function opened(candidate: HnswGraph | null): HnswGraph {
  if (candidate === null) throw new Error('The graph has not been opened.')
  return candidate
}

answerCalls<Commands>({
  open: (ask) => {
    const { saved } = ask
    dim = ask.dim
    graph = saved === null ? HnswGraph.empty(dim, 0) : HnswGraph.load(dim, saved.deleted, saved.file)
    return graph.count
  },
  change: ({ labels, packed, deleted }) => {
    opened(graph).add(labels, packed)
    opened(graph).markDeleted(deleted)
    return null
  },
  search: ({ embedding, candidates }) => opened(graph).search(embedding, candidates),
  save: ({ file }) => opened(graph).save(file),
  'begin-compaction': ({ capacity }) => {
    // Of a compaction that failed.
    successor?.free()
    successor = HnswGraph.empty(dim, capacity)
    return null
  },
  'copy-for-compaction': ({ from, to }) => {
    opened(successor).copyFrom(opened(graph), from, to)
    return null
  },
  'end-compaction': ({ deleted }) => {
    opened(successor).markDeleted(deleted)
    opened(graph).free()
    graph = successor
    successor = null
    return null
  },
})
