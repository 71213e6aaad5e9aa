/** Registers the dialects that are switched on. */
import type { FastifyInstance } from 'fastify'
import type { DialectName } from '../../config.js'
import { sendProblem } from '../plugins/problems.js'
import { acceptClientBodies } from './bodies.js'
import type { Dialect, DialectOptions } from './dialects.js'
import { errorAndMessage } from './error-members.js'

const DIALECTS: Readonly<Record<DialectName, () => Promise<{ dialect: Dialect }>>> = {
  openai: () => import('./openai.js'),
  rerank: () => import('./rerank.js'),
  cohere: () => import('./cohere.js'),
  tei: () => import('./tei.js'),
  voyage: () => import('./voyage.js'),
  immich: () => import('./immich.js'),
  weaviate: () => import('./weaviate.js'),
  'clip-retrieval': () => import('./clip-retrieval.js'),
  mcp: () => import('./mcp/route.js'),
}

export interface Dialects {
  /** Registers the addresses of the dialects. */
  register: (app: FastifyInstance) => Promise<void>
  /** Answers their requests at routes of our own, which are registered on `app` later. */
  share: (app: FastifyInstance) => void
}

export async function openDialects(
  names: readonly DialectName[],
  options: DialectOptions,
): Promise<Dialects> {
  const dialects = await Promise.all(names.map(async (name) => (await DIALECTS[name]()).dialect))
  return {
    async register(app) {
      for (const { routes, errorMembers } of dialects) {
        if (routes === undefined) continue
        await app.register(async (scope) => {
          scope.setErrorHandler((error, request, reply) =>
            sendProblem(error, request, reply, errorMembers),
          )
          acceptClientBodies(scope)
          await scope.register(routes, options)
        })
      }
      for (const prefix of ['/v1', '/v2'])
        await app.register(
          (scope, _options, done) => {
            scope.setErrorHandler((error, request, reply) =>
              sendProblem(error, request, reply, errorAndMessage),
            )
            scope.setNotFoundHandler((request, reply) =>
              sendProblem(app.unmatched(request, reply), request, reply, errorAndMessage),
            )
            done()
          },
          { prefix },
        )
    },
    share(app) {
      const shared = dialects.flatMap(({ shared: addresses = [], errorMembers }) =>
        addresses.map((address) => ({ address, errorMembers })),
      )
      app.addHook('preValidation', (request, reply, next) => {
        const { url } = request.routeOptions
        const found = shared.find(
          ({ address }) => address.path === url && address.recognises(request),
        )
        // Not async: most requests are of our own and continue at once.
        if (found === undefined) return next()
        found.address.answer(request, reply, options).then(
          (answer) => {
            // As text: the reply schema of the route is that of our own body.
            const text = typeof answer === 'string' ? answer : JSON.stringify(answer)
            // The time limit may have answered.
            if (!reply.sent) reply.type('application/json; charset=utf-8').send(text)
          },
          (error: unknown) => {
            if (!reply.sent) sendProblem(error, request, reply, found.errorMembers)
          },
        )
      })
    },
  }
}
