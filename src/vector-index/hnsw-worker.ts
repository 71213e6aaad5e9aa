/**
 * The process that owns the graph. Searching and adding block, so they must not run in the process
 * that serves requests, and a crash of hnswlib ends this process alone. Handlers start in the order
 * of the commands.
 */
import { closeSync, openSync } from 'node:fs'
import { devNull } from 'node:os'
import { sha256OfFile } from '../files/sha256.js'
import { answerCalls } from '../worker/answer-calls.js'
import { AdaptiveGraph, type GraphOptions } from './adaptive-graph.js'
import { Copies, type SavedCopies } from './copies.js'
import { copyReader, writeEmbeddings } from './copies-file.js'
import type { Search } from './search-groups.js'
import type { Nearest } from './top-k.js'

/** Commands with their answers. */
export interface Commands {
  /** Opens an empty graph, or the one in `file`. */
  open: {
    input: GraphOptions & {
      saved: {
        file: string
        deleted: number[]
        copies: SavedCopies & { file: string | null }
      } | null
    }
    output: { count: number; isCrowded: boolean }
  }
  /** Adds labels and marks others as deleted, in one step. */
  change: { input: { labels: number[]; packed: Float32Array; deleted: number[] }; output: null }
  /** Answers in the order of the searches, with the measured recall. */
  search: { input: readonly Search[]; output: { found: Nearest[]; recall: number | null } }
  /**
   * Writes the graph, and the embeddings of near copies if there are some. Answers the SHA-256 of
   * the files, null for one that was not written.
   */
  save: {
    input: { file: string; copiesFile: string }
    output: { sha256: string; copies: SavedCopies & { sha256: string | null } }
  }
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

function copiesOf({ file, ...saved }: SavedCopies & { file: string | null }): Copies {
  const { dim } = options
  // Not read without near copies.
  const descriptor = openSync(file ?? devNull, 'r')
  try {
    return Copies.load(dim, saved, copyReader(descriptor, dim))
  } finally {
    closeSync(descriptor)
  }
}

answerCalls<Commands>({
  open: ({ saved, ...rest }) => {
    options = rest
    graph =
      saved === null
        ? AdaptiveGraph.empty(options)
        : AdaptiveGraph.load(options, saved.file, saved.deleted, copiesOf(saved.copies))
    return { count: graph.count, isCrowded: graph.isCrowded(saved?.deleted ?? []) }
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
  save: async ({ file, copiesFile }) => {
    const { copies } = opened(graph)
    opened(graph).save(file)
    const hasNear = copies.nearCount > 0
    if (hasNear) await writeEmbeddings(copiesFile, copies.embeddings())
    const saved = copies.saved()
    const [{ sha256 }, digest] = await Promise.all([
      sha256OfFile(file),
      hasNear ? sha256OfFile(copiesFile) : null,
    ])
    return { sha256, copies: { ...saved, sha256: digest?.sha256 ?? null } }
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
