/** What the main thread and the worker that runs the graphs say to each other. */
import type { GraphName, Tensors } from './graphs.js'

export interface WorkerStart {
  folder: string
  /** Of the bundle that the main thread opened: a restarted worker must not load another one. */
  fingerprint: string
  threads: number
}

export interface BatchRequest {
  graph: GraphName
  inputs: Tensors
}

export type BatchReply =
  | { kind: 'ready' }
  | { kind: 'refused'; message: string }
  | { kind: 'done'; outputs: Tensors; milliseconds: number }
  | { kind: 'failed'; message: string }

/** Instead of a batch: answer what was asked before, then end. */
export const STOP = 'stop'
