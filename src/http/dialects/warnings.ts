/** What a client should know about scores, in a field that readers of other services ignore. */
import type { FastifyReply } from 'fastify'
import { Type } from 'typebox'
import type { Ranking } from './ranking.js'

export const Warnings = Type.Optional(
  Type.Array(Type.String(), { description: 'Why there is no match, or what was not compared' }),
)

/** The notices about languages too. No field without a warning. */
export function warningsOf({ orderedBy, documents, notices }: Ranking): { warnings?: string[] } {
  const both = documents.some(({ text, images }) => text !== undefined && images.length > 0)
  const reason =
    notices.length > 0
      ? 'the bundle does not understand the texts'
      : 'two texts, or two images, have no match'
  const warnings = [
    ...(orderedBy === 'match' ? [] : [`Scores are the similarity of embeddings: ${reason}.`]),
    ...notices.map(({ detail }) => detail),
    ...(both
      ? [
          'Of a document with a text and an image, the part of another kind than the query is scored.',
        ]
      : []),
  ]
  return warnings.length > 0 ? { warnings } : {}
}

/** Tells them in the header X-Warnings, as a list in JSON, where the reply is a list alone. */
export function warnInHeader(reply: FastifyReply, warnings: readonly string[] | undefined): void {
  if (warnings === undefined || warnings.length === 0) return
  // Headers are ASCII, and names of languages and bundles may not be.
  const text = JSON.stringify(warnings).replace(
    /[^\x20-\x7e]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
  reply.header('x-warnings', text)
}
