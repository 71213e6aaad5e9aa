/**
 * Tells a process that stands still from one that computes for long: native code blocks the event
 * loop of a worker, so a thread of its own writes a byte a second to a pipe.
 */
import { writeSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { Worker } from 'node:worker_threads'

/** Descriptor of the pipe in the worker; 3 is Node's channel. */
const PIPE = 4
const INTERVAL_MS = 1000
/** Seconds without a byte after which a process counts as hung. */
const LIMIT = 10
/** The same before the first byte, which comes when the modules are loaded. */
const START_LIMIT = 60

const BEAT = `
const { writeSync } = require('node:fs')
setInterval(() => { try { writeSync(${PIPE}, '.') } catch {} }, ${INTERVAL_MS})`

/** Called in the worker. */
export function startHeartbeat(): void {
  // The thread takes a moment to start.
  writeSync(PIPE, '.')
  const limits = { maxOldGenerationSizeMb: 8, maxYoungGenerationSizeMb: 1, stackSizeMb: 1 }
  new Worker(BEAT, { eval: true, execArgv: [], env: {}, resourceLimits: limits }).unref()
}

/**
 * Called in the service.
 * @param onHang - called once when bytes stay away
 * @returns stops watching
 */
export function watchHeartbeat(pipe: Readable, onHang: () => void): () => void {
  let limit = START_LIMIT
  // Seconds of this process: if both are suspended, the worker has not hung.
  let missed = 0
  pipe.on('data', () => {
    missed = 0
    limit = LIMIT
  })
  const timer = setInterval(() => {
    missed += 1
    if (missed < limit) return
    clearInterval(timer)
    onHang()
  }, INTERVAL_MS).unref()
  return () => clearInterval(timer)
}
