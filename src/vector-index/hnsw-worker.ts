/**
 * The process that owns the graph: searching and adding block, so they must not run where requests
 * are served, and what hnswlib does not survive ends this process alone. Commands are answered one
 * after the other, in the order in which they came.
 */
import { answerCalls } from '../worker/answer-calls.js'
import { AdaptiveGraph, type GraphOptions } from './adaptive-graph.js'
import type { Found } from './top-k.js'
import type { Searched } from './search-groups.js'

/** Every command and what it is answered with. */
export interface Commands {
  /**
   * Begins with an empty graph, or the one in `file`, of whose labels some are deleted. Answers how
   * many are in it.
   */
  open: {
    input: GraphOptions & { saved: { file: string; deleted: number[] } | null }
    output: number
  }
  /** Adds, then marks as deleted, as one step. */
  change: { input: { labels: number[]; packed: Float32Array; deleted: number[] }; output: null }
  /**
   * Answers in the order of the searches, and the share of the exact nearest that they have lately
   * been found to find.
   */
  search: { input: readonly Searched[]; output: { found: Found[]; recall: number | null } }
  /** Answers the SHA-256 of the file. */
  save: { input: { file: string }; output: string }
  /** Begins a second graph beside the one in use. */
  'begin-compaction': { input: { capacity: number }; output: null }
  /** Copies some embeddings into the second graph. */
  'copy-for-compaction': { input: { from: number[]; to: number[] }; output: null }
  /** Puts the second graph in the place of the first. */
  'end-compaction': { input: { deleted: number[] }; output: null }
}

let graph: AdaptiveGraph | null = null
let successor: AdaptiveGraph | null = null
let options: GraphOptions = { dim: 0, recall: 0, sampleRows: 0 }

function opened(candidate: AdaptiveGraph | null): AdaptiveGraph {
  if (candidate === null) throw new Error('The graph has not been opened.')
  return candidate
}

answerCalls<Commands>({
  open: ({ saved, ...rest }) => {
    options = rest
    graph =
      saved === null
        ? AdaptiveGraph.empty(options)
        : AdaptiveGraph.load(options, saved.file, saved.deleted)
    return graph.count
  },
  change: ({ labels, packed, deleted }) => {
    opened(graph).add(labels, packed)
    opened(graph).markDeleted(deleted)
    return null
  },
  search: (group) => {
    const searched = opened(graph)
    const found = group.map(({ embedding, candidates }) => searched.search(embedding, candidates))
    return { found, recall: searched.recall }
  },
  save: ({ file }) => opened(graph).save(file),
  'begin-compaction': ({ capacity }) => {
    // Of a compaction that failed.
    successor?.free()
    successor = AdaptiveGraph.empty(options, capacity)
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
