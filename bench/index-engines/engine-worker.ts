/** One engine in its own process, so that its memory can be measured. */
import { readFileSync } from 'node:fs'
import { normalise } from '../../src/vector-index/normalise.js'
import { answerCalls } from '../../src/worker/answer-calls.js'
import { randomEmbeddings, randomNumbers } from '../../test/support/random-embeddings.js'
import type { Scale } from '../bench.js'
import { embeddingsFor, extended, row, type RealEmbeddings } from '../vectors.js'
import { openEngine, type Engine, type EngineName } from './engines.js'

export interface Commands {
  /** Core-seconds, and bytes of private memory. */
  build: {
    input: { name: EngineName; scale: Scale; items: number }
    output: { seconds: number; bytes: number }
  }
  /** Share of `truth` (labels, best first) that is found among the first `k`. */
  recall: { input: { truth: number[][]; k: number; ef: number }; output: number }
  /** Core-microseconds of one search, the mean over all queries. */
  search: { input: { queries: number; k: number; ef: number }; output: number }
  /** Number of equal embeddings found. */
  equal: { input: { name: EngineName }; output: number }
  /** Replaces and removes at random. */
  churn: { input: { name: EngineName }; output: null }
}

/** Equal embeddings, all of which an index has to find: docs/adr/0004-vector-engine.md. */
const EQUAL = 300
const SMALL_DIM = 24

const AT_ONCE = 1000
let engine: Engine
let real: RealEmbeddings

answerCalls<Commands>({
  build: async ({ name, scale, items }) => {
    real = await embeddingsFor(scale)
    engine = openEngine(name, real.photos.dim)
    const before = bytes()
    let seconds = 0
    for (let from = 0; from < items; from += AT_ONCE) {
      const some = extended(real.photos, from, Math.min(AT_ONCE, items - from))
      const begun = coreSeconds()
      for (let at = 0; at < some.count; at += 1) engine.add(from + at, row(some, at))
      seconds += coreSeconds() - begun
    }
    return { seconds, bytes: bytes() - before }
  },
  recall: ({ truth, k, ef }) => {
    const found = truth.map((labels, at) => {
      const exact = new Set(labels.slice(0, k))
      return engine.search(row(real.captions, at), k, ef).labels.filter((label) => exact.has(label))
        .length
    })
    return found.reduce((sum, one) => sum + one, 0) / (k * truth.length)
  },
  search: ({ queries, k, ef }) => {
    const begun = coreSeconds()
    for (let at = 0; at < queries; at += 1) engine.search(row(real.captions, at), k, ef)
    return (1e6 * (coreSeconds() - begun)) / queries
  },
  equal: ({ name }) => {
    const small = openEngine(name, SMALL_DIM)
    const [same] = made(1) as [Float32Array]
    for (let label = 0; label < EQUAL; label += 1) small.add(label, same)
    return new Set(small.search(same, EQUAL, 2 * EQUAL).labels).size
  },
  churn: ({ name }) => {
    const small = openEngine(name, SMALL_DIM)
    const next = randomNumbers(1)
    const present = new Map<number, number>()
    for (const [label, embedding] of made(1600).entries()) {
      const id = Math.floor(next() * 150)
      small.remove([present.get(id)].filter((old) => old !== undefined))
      small.add(label, embedding)
      present.set(id, label)
      if (label % 100 !== 99) continue
      const gone = [...present].filter(() => next() < 0.2)
      small.remove(gone.map(([, old]) => old))
      for (const [old] of gone) present.delete(old)
    }
    return null
  },
})

function made(count: number): Float32Array[] {
  return randomEmbeddings(count, SMALL_DIM).map((embedding) => normalise(embedding, SMALL_DIM))
}

function coreSeconds(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

function bytes(): number {
  return (
    1024 * Number(/^RssAnon:\s*(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0)
  )
}
