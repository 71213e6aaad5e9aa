/**
 * The bodies of Hugging Face's text-embeddings-inference at our own addresses: `/embed` with
 * strings in `inputs`, and `/rerank` with `texts`. Our own bodies have neither.
 */
import { Type, type Static } from 'typebox'
import { checked, compileExact } from '../plugins/validation.js'
import { fieldsOf, isObject } from './bodies.js'
import { contentsOf } from './content.js'
import type { Dialect, SharedAddress } from './dialects.js'
import { errorAndMessage } from './error-members.js'
import { checkDimensions } from './named-model.js'
import { rank } from './ranking.js'
import { refuseTokens } from './token-ids.js'
import { vectorsOf, vectorText } from './vectors.js'
import { warnInHeader, warningsOf } from './warnings.js'

const EmbedBody = Type.Object({
  inputs: Type.Unknown(),
  dimensions: Type.Optional(Type.Integer({ description: 'the number of values of the bundle' })),
})
const Flag = Type.Boolean({ description: 'true or false' })
const RerankBody = Type.Object({
  query: Type.Unknown({ description: 'a text or an image' }),
  texts: Type.Unknown(),
  return_text: Type.Optional(Flag),
  raw_scores: Type.Optional(Flag),
})
const validateEmbed = compileExact<Static<typeof EmbedBody>>(EmbedBody)
const validateRerank = compileExact<Static<typeof RerankBody>>(RerankBody)

const embed: SharedAddress = {
  path: '/embed',
  recognises({ body }) {
    const inputs = isObject(body) ? body['inputs'] : undefined
    const [first] = Array.isArray(inputs) ? (inputs as unknown[]) : [inputs]
    return typeof first === 'string' || typeof first === 'number' || Array.isArray(first)
  },
  async answer(request, reply, options) {
    const { inputs, dimensions } = checked(validateEmbed, fieldsOf(request), 'field')
    checkDimensions(dimensions, 'dimensions', options.retrieval)
    refuseTokens(inputs, 'inputs')
    const nameOf = (at: number): string => (Array.isArray(inputs) ? `inputs[${at}]` : 'inputs')
    const contents = contentsOf(inputs, 'inputs')
    const names = { name: 'inputs', nameOf }
    const { vectors } = await vectorsOf(contents, names, options, request, reply)
    return `[${vectors.map((vector) => vectorText(vector, 'float')).join()}]`
  },
}

const rerank: SharedAddress = {
  path: '/rerank',
  recognises: ({ body }) => isObject(body) && 'texts' in body,
  async answer(request, reply, options) {
    const { query, texts, ...flags } = checked(validateRerank, fieldsOf(request), 'field')
    const ranking = await rank({ query, documents: texts }, options, request, reply)
    const { ranked, documents } = ranking
    warnInHeader(reply, warningsOf(ranking).warnings)
    return ranked.map(({ index, relevance, logit }) => {
      const text = flags.return_text === true ? documents[index]?.text : undefined
      const score = flags.raw_scores === true ? logit : relevance
      return text === undefined ? { index, score } : { index, score, text }
    })
  },
}

export const dialect: Dialect = { shared: [embed, rerank], errorMembers: errorAndMessage }
