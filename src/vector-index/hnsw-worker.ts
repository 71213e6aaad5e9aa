/**
 * The process that owns the graph. Searching and adding block, so they must not run in the process
 * that serves requests, and a crash of hnswlib ends this process alone. Handlers start in the order
 * of the commands.
 */
import { sha256OfFile } from '../files/sha256.js'
import { answerCalls } from '../worker/answer-calls.js'
import { AdaptiveGraph, type GraphOptions } from './adaptive-graph.js'
import { Copies } from './copies.js'
import type { Search } from './search-groups.js'
import type { Nearest } from './top-k.js'

/** Commands with their answers. */
export interface Commands {
  /** Opens an empty graph, or the one in `file`. Answers its number of labels. */
  open: {
    input: GraphOptions & {
      saved: { file: string; deleted: number[]; copies: readonly number[] } | null
    }
    output: number
  }
  /** Adds labels and marks others as deleted, in one step. */
  change: { input: { labels: number[]; packed: Float32Array; deleted: number[] }; output: null }
  /** Answers in the order of the searches, with the measured recall. */
  search: { input: readonly Search[]; output: { found: Nearest[]; recall: number | null } }
  /** Writes the graph. Answers the SHA-256 of the file, and the copies, which it does not have. */
  save: { input: { file: string }; output: { sha256: string; copies: number[] } }
  /** Opens a second graph. */
  'begin-compaction': { input: { capacity: number }; output: null }
  /** Copies some embeddings into the second graph. */
  'copy-for-compaction': { input: { from: number[]; to: number[] }; output: null }
  /** Replaces the first graph by the second. */
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
        : AdaptiveGraph.load(options, saved.file, saved.deleted, Copies.of(saved.copies))
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
  save: async ({ file }) => {
    const saved = opened(graph)
    saved.save(file)
    const copies = saved.copies.toJSON()
    return { sha256: (await sha256OfFile(file)).sha256, copies }
  },
  'begin-compaction': ({ capacity }) => {
    // A failed compaction may have left one.
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
