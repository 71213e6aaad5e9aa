/**
 * Runs the clients from npm against a service, and prints what each returned as JSON.
 * Standard input: { base, model, texts, images, query, keys: { [client]: key } }.
 */
import { readFileSync } from 'node:fs'
import { CohereRerank } from '@langchain/cohere'
import { OpenAIEmbeddings } from '@langchain/openai'
import { CohereClient, CohereClientV2 } from 'cohere-ai'
import OpenAI from 'openai'

const { base, model, texts, images, query, keys } = JSON.parse(readFileSync(0, 'utf8'))
const WRONG_KEY = 'not-a-key-of-this-service'

/** What a call throws, as a user of the client sees it. */
async function failure(call) {
  const from = Date.now()
  try {
    const result = await call()
    return { error: null, result, ms: Date.now() - from }
  } catch (error) {
    const status = error.status ?? error.statusCode ?? null
    return { error: String(error.message), status, name: error.constructor.name }
  }
}

/**
 * Uses up the rate of a key, so that the next request is refused with 429 and Retry-After. The
 * limit is one request in three seconds, of which then more than two are left.
 */
async function exhaust(key) {
  for (let at = 0; at < 200; at += 1) {
    const response = await fetch(`${base}/v1/models`, {
      headers: { authorization: `Bearer ${key}` },
    })
    if (Number(response.headers.get('retry-after')) >= 3) return
    if (response.status === 429) await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error('the key has no limit')
}

const order = ({ results }) => results.map(({ index }) => index)
const scores = ({ results }) => results.map(({ relevanceScore }) => relevanceScore)

const clients = {
  async openai(apiKey) {
    const client = (options = {}) =>
      new OpenAI({ apiKey, baseURL: `${base}/v1`, maxRetries: 0, ...options })
    const embed = (input, options) => client(options).embeddings.create({ model, input })
    const { data } = await embed([...texts, ...images])
    const floats = await client().embeddings.create({
      model,
      input: texts,
      encoding_format: 'float',
    })
    const listed = await client().models.list()
    const one = await client().models.retrieve(model)
    const wrongKey = await failure(() => embed('a', { apiKey: WRONG_KEY }))
    const late = { defaultHeaders: { 'request-timeout': '0.000001' } }
    return {
      vectors: data.map(({ embedding }) => embedding),
      floats: floats.data.map(({ embedding }) => embedding),
      models: [...listed.data.map(({ id }) => id), one.id],
      wrongInput: await failure(() => embed([...texts, ' '])),
      wrongModel: await failure(() => client().embeddings.create({ model: 'other', input: 'a' })),
      wrongRoute: await failure(() => client().chat.completions.create({ model, messages: [] })),
      wrongKey,
      timedOut: await failure(() => embed('a', late)),
      refused: await exhaust(apiKey).then(() => failure(() => embed('a'))),
      tried: await exhaust(apiKey).then(() => failure(() => embed('a', { maxRetries: 2 }))),
    }
  },

  async 'cohere-ai'(token) {
    const client = (key = token) => new CohereClientV2({ token: key, environment: base })
    const once = { maxRetries: 0 }
    const rerank = (documents, options = once, key = token) =>
      client(key).rerank({ model, query, documents }, options)
    const ranked = await rerank(images)
    const first = new CohereClient({ token, environment: base })
    const asObjects = await first.rerank({
      ...{
        model,
        query,
        documents: texts.map((text) => ({ text })),
        topN: 1,
        returnDocuments: true,
      },
    })
    const embed = (request) =>
      client().embed({ model, inputType: 'search_document', embeddingTypes: ['float'], ...request })
    const inputs = [{ content: [{ type: 'image_url', imageUrl: { url: images[0] } }] }]
    const embedded = await Promise.all([embed({ texts }), embed({ images }), embed({ inputs })])
    return {
      order: order(ranked),
      scores: scores(ranked),
      documents: asObjects.results.map(({ document }) => document.text),
      vectors: embedded.flatMap(({ embeddings }) => embeddings.float),
      wrongInput: await failure(() => rerank(['a', ' '])),
      wrongKey: await failure(() => rerank(['a'], once, WRONG_KEY)),
      refused: await exhaust(token).then(() => failure(() => rerank(['a']))),
      tried: await exhaust(token).then(() => failure(() => rerank(['a'], { maxRetries: 2 }))),
    }
  },

  async '@langchain/openai'(apiKey) {
    const embeddings = (key = apiKey) =>
      new OpenAIEmbeddings({
        apiKey: key,
        model,
        maxRetries: 0,
        configuration: { baseURL: `${base}/v1` },
      })
    return {
      vectors: [
        await embeddings().embedQuery(texts[0]),
        ...(await embeddings().embedDocuments(texts)),
      ],
      wrongInput: await failure(() => embeddings().embedQuery(' ')),
      wrongKey: await failure(() => embeddings(WRONG_KEY).embedQuery('a')),
      refused: await exhaust(apiKey).then(() => failure(() => embeddings().embedQuery('a'))),
    }
  },

  async '@langchain/cohere'(token) {
    const rerank = (documents, key = token) => {
      const client = new CohereClient({ token: key, environment: base })
      return new CohereRerank({ model, client, topN: documents.length }).rerank(documents, query)
    }
    return {
      order: (await rerank(images)).map(({ index }) => index),
      wrongInput: await failure(() => rerank(['a', ' '])),
      wrongKey: await failure(() => rerank(['a'], WRONG_KEY)),
    }
  },
}

const outcomes = {}
for (const [name, run] of Object.entries(clients)) outcomes[name] = await run(keys[name])
console.log(JSON.stringify(outcomes))
