/**
 * Image-text retrieval as a team would write it in Node: fastify, and onnxruntime-node, sharp and
 * hnswlib-node in its handlers. It speaks as much of Tandem's API as is measured. Settings come
 * from the environment:
 *
 * BUNDLE       folder with the graphs and the tokenizer
 * PORT         of 127.0.0.1
 * PROCESSES    that share the port, by node:cluster
 * THREADS      of ONNX Runtime, for one run
 * INDEX, ITEMS a graph of hnswlib and a JSON list of its items, where there is something to search
 * EF           beam of a search
 */
import cluster from 'node:cluster'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import multipart from '@fastify/multipart'
import { Tokenizer } from '@huggingface/tokenizers'
import Fastify from 'fastify'
import hnswlib from 'hnswlib-node'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import sharp from 'sharp'

const { BUNDLE = '', PORT, PROCESSES, THREADS, INDEX, ITEMS = '', EF } = process.env

interface Manifest {
  embedding: { dim: number }
  text_encoder: { file: string; tokenizer: string; max_tokens: number }
  image_encoder: { file: string; size: number }
}
type Item = Record<string, unknown>

function readJson(file: string): unknown {
  return JSON.parse(readFileSync(file, 'utf8'))
}

async function serve(): Promise<void> {
  const manifest = readJson(join(BUNDLE, 'manifest.json')) as Manifest
  const { dim } = manifest.embedding
  const { tokenizer: tokenizerFile, max_tokens: maxTokens } = manifest.text_encoder
  const { size } = manifest.image_encoder
  const options = {
    executionProviders: ['cpu'],
    intraOpNumThreads: Number(THREADS),
    interOpNumThreads: 1,
    logSeverityLevel: 3,
  } as const
  const textSession = await InferenceSession.create(
    join(BUNDLE, manifest.text_encoder.file),
    options,
  )
  const imageSession = await InferenceSession.create(
    join(BUNDLE, manifest.image_encoder.file),
    options,
  )
  const tokenizer = new Tokenizer(readJson(join(BUNDLE, tokenizerFile)) as object, {})
  const index = new hnswlib.HierarchicalNSW('ip', dim)
  const items = INDEX === undefined ? [] : (readJson(ITEMS) as Item[])
  if (INDEX !== undefined) {
    index.readIndexSync(INDEX)
    index.setEf(Number(EF))
  }

  async function embedText(text: string): Promise<Float32Array> {
    const { ids } = tokenizer.encode(text)
    const kept = ids.length <= maxTokens ? ids : [...ids.slice(0, maxTokens - 1), ...ids.slice(-1)]
    const dims = [1, kept.length]
    const feeds = {
      token_ids: new Tensor('int64', BigInt64Array.from(kept, BigInt), dims),
      attention_mask: new Tensor('int64', new BigInt64Array(kept.length).fill(1n), dims),
    }
    return (await textSession.run(feeds, ['embedding']))['embedding']?.data as Float32Array
  }

  async function embedImage(bytes: Buffer): Promise<Float32Array> {
    const pixels = await sharp(bytes)
      .rotate()
      .toColourspace('srgb')
      .removeAlpha()
      .resize(size, size, { fit: 'fill', kernel: 'cubic' })
      .raw()
      .toBuffer()
    const feeds = { pixels: new Tensor('uint8', pixels, [1, size, size, 3]) }
    return (await imageSession.run(feeds, ['embedding']))['embedding']?.data as Float32Array
  }

  const app = Fastify()
  await app.register(multipart)
  app.get('/health', () => ({ status: 'ok' }))
  const embedding = {
    type: 'object',
    properties: {
      index: { type: 'integer' },
      embedding: { type: 'array', items: { type: 'number' } },
    },
  }
  const embeddings = {
    type: 'object',
    properties: { embeddings: { type: 'array', items: embedding } },
  }
  const body = {
    type: 'object',
    required: ['inputs'],
    properties: {
      inputs: {
        type: 'array',
        items: { type: 'object', required: ['text'], properties: { text: { type: 'string' } } },
      },
    },
  }
  app.post('/embed', { schema: { body, response: { 200: embeddings } } }, async (request) => {
    const { inputs } = request.body as { inputs: { text: string }[] }
    const rows: Float32Array[] = []
    for (const { text } of inputs) rows.push(await embedText(text))
    return { embeddings: rows.map((row, at) => ({ index: at, embedding: Array.from(row) })) }
  })
  app.post('/embed-image', { schema: { response: { 200: embeddings } } }, async (request) => {
    const file = await request.file()
    if (file === undefined) throw new Error('the form has no file')
    return {
      embeddings: [{ index: 0, embedding: Array.from(await embedImage(await file.toBuffer())) }],
    }
  })
  const querystring = {
    type: 'object',
    required: ['q'],
    properties: { q: { type: 'string', maxLength: 10_000 }, k: { type: 'integer', default: 10 } },
  }
  app.get('/search', { schema: { querystring } }, async (request) => {
    const { q, k } = request.query as { q: string; k: number }
    const { neighbors, distances } = index.searchKnn(Array.from(await embedText(q)), k)
    return {
      hits: neighbors.map((label, at) => ({
        ...items[label],
        similarity: 1 - (distances[at] ?? 1),
      })),
    }
  })
  await app.listen({ host: '127.0.0.1', port: Number(PORT) })
}

const processes = Number(PROCESSES)
if (processes > 1 && cluster.isPrimary) {
  for (let at = 0; at < processes; at += 1) cluster.fork()
} else {
  await serve()
}
