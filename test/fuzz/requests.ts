/** Requests to every operation, valid but for some mutations. */
import fc, { type Arbitrary } from 'fast-check'
import { randomNumbers } from '../support/random-embeddings.js'
import { brokenHeaders, methods, oddHeaders, oddTypes, targetTo } from './addresses.js'
import {
  filters,
  itemBody,
  itemsBody,
  mcpBody,
  searchBody,
  reembeddingBody,
  type Body,
} from './bodies.js'
import type { Case } from './campaign.js'
import {
  clientRerankBody,
  cohereBody,
  embeddingsBody,
  knnBody,
  predictBody,
  scoreBody,
  sharedEmbedBody,
  sharedRerankBody,
  vectorizeBody,
  voyageBody,
} from './client-bodies.js'
import { mutate } from './mutations.js'
import { ids, names, numbers, payloads, texts } from './values.js'

/** Generated at a time, to bound memory. */
const AT_A_TIME = 500
/** Share of the messages with changed bytes anywhere. */
const SHARE_OF_CHANGED_BYTES = 0.05

interface Operation {
  method: string
  /** As the OpenAPI document writes it. */
  path: string
  query?: Record<string, Arbitrary<unknown>>
  body?: Arbitrary<Body>
  /** Expensive: this many times less frequent than others. */
  rare?: number
}

const payload = payloads.map((one) => JSON.stringify(one))
const options = {
  k: numbers,
  candidates: numbers,
  rerank: fc.constantFrom('true', 'false', '1', ''),
  min_match: numbers,
  filter: filters.map((one) => JSON.stringify(one)),
}

/** Every operation of the OpenAPI document; a test holds the two together. */
export const operations: readonly Operation[] = [
  { method: 'GET', path: '/health/live' },
  { method: 'GET', path: '/health/ready' },
  { method: 'GET', path: '/metrics', rare: 4 },
  { method: 'GET', path: '/search', query: { q: texts, ...options } },
  { method: 'POST', path: '/search', body: searchBody },
  { method: 'POST', path: '/embed', body: sharedEmbedBody },
  { method: 'POST', path: '/rerank', body: sharedRerankBody },
  { method: 'POST', path: '/mcp', body: mcpBody },
  { method: 'POST', path: '/v1/embeddings', body: embeddingsBody, rare: 2 },
  { method: 'POST', path: '/embeddings', body: embeddingsBody, rare: 20 },
  { method: 'GET', path: '/v1/models', rare: 20 },
  { method: 'GET', path: '/models', rare: 20 },
  { method: 'GET', path: '/v1/models/{id}', rare: 10 },
  { method: 'POST', path: '/v1/rerank', body: clientRerankBody, rare: 4 },
  { method: 'POST', path: '/v2/rerank', body: clientRerankBody, rare: 4 },
  { method: 'POST', path: '/score', body: scoreBody, rare: 4 },
  { method: 'POST', path: '/v1/score', body: scoreBody, rare: 20 },
  { method: 'POST', path: '/v1/embed', body: cohereBody, rare: 4 },
  { method: 'POST', path: '/v2/embed', body: cohereBody, rare: 4 },
  { method: 'POST', path: '/v1/multimodalembeddings', body: voyageBody, rare: 4 },
  { method: 'POST', path: '/predict', body: predictBody, rare: 2 },
  { method: 'GET', path: '/ping', rare: 20 },
  { method: 'POST', path: '/vectorize', body: vectorizeBody, rare: 4 },
  { method: 'GET', path: '/meta', rare: 20 },
  { method: 'GET', path: '/.well-known/live', rare: 20 },
  { method: 'GET', path: '/.well-known/ready', rare: 20 },
  { method: 'POST', path: '/knn-service', body: knnBody, rare: 4 },
  { method: 'GET', path: '/items', query: { limit: numbers, after: ids } },
  { method: 'POST', path: '/items', body: itemsBody },
  { method: 'PUT', path: '/items/{id}', query: { payload }, body: itemBody },
  { method: 'GET', path: '/items/{id}' },
  { method: 'DELETE', path: '/items/{id}' },
  { method: 'GET', path: '/items/{id}/image' },
  { method: 'GET', path: '/backups', rare: 4 },
  { method: 'POST', path: '/backups', query: { name: names }, rare: 20 },
  { method: 'POST', path: '/backups/{name}/restore', rare: 20 },
  { method: 'DELETE', path: '/backups/{name}', rare: 4 },
  { method: 'GET', path: '/reembedding' },
  { method: 'PUT', path: '/reembedding', body: reembeddingBody, rare: 4 },
  { method: 'POST', path: '/reembedding/promote', rare: 4 },
  { method: 'DELETE', path: '/reembedding', rare: 4 },
]

export function* mutatedRequests(count: number, seed: number): Generator<Case> {
  const next = randomNumbers(seed)
  const request = fc.oneof(
    ...operations.map((one) => ({ weight: 20 / (one.rare ?? 1), arbitrary: requestTo(one) })),
  )
  for (let at = 0; at < count; at += AT_A_TIME) {
    const drawn = fc.sample(request, { numRuns: Math.min(AT_A_TIME, count - at), seed: seed + at })
    const messages = drawn.map(({ message }) => message)
    for (const one of drawn) {
      if (next() >= SHARE_OF_CHANGED_BYTES) yield one
      else yield { ...one, message: mutate(one.message, next, messages), isWhole: false }
    }
  }
}

function now<Value>(
  usual: Arbitrary<Value>,
  odd: Arbitrary<Value>,
  oneIn: number,
): Arbitrary<Value> {
  return fc.oneof({ weight: oneIn - 1, arbitrary: usual }, { weight: 1, arbitrary: odd })
}

function requestTo({ method, path, query = {}, body }: Operation): Arbitrary<Case> {
  const none = fc.constant<Body | null>(null)
  return fc
    .record({
      method: now(fc.constant(method), methods, 20),
      target: targetTo(path, query),
      headers: now(fc.constant<string[]>([]), fc.array(oddHeaders, { maxLength: 3 }), 4),
      broken: now(fc.constant<string | null>(null), brokenHeaders, 20),
      type: now(fc.constant<string | null>(null), oddTypes, 20),
      body: body === undefined ? now(none, searchBody, 20) : now<Body | null>(body, none, 30),
    })
    .map(({ body: given, type, broken, ...head }) => {
      const headers = ['host: localhost', ...head.headers]
      if (given !== null)
        headers.push(`content-type: ${type ?? given.type}`, `content-length: ${given.bytes.length}`)
      if (broken !== null) headers.push(broken)
      const lines = [`${head.method} ${head.target} HTTP/1.1`, ...headers, '', '']
      const message = Buffer.concat([
        Buffer.from(lines.join('\r\n'), 'latin1'),
        given?.bytes ?? Buffer.alloc(0),
      ])
      return { kind: `${method} ${path}`, message, isWhole: broken === null }
    })
}
