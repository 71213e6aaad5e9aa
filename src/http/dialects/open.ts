/** Registers the dialects that are switched on. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import type { DialectName } from '../../config.js'
import { sendProblem, type ErrorMembers } from '../plugins/problems.js'
import { acceptClientBodies } from './bodies.js'
import type { Dialect, DialectOptions, DialectRoutes } from './dialects.js'
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

/** Of OpenAI's and Cohere's clients, which meet errors without a route there too. */
const CLIENT_PATH = /^\/v[12](?:[/?]|$)/

export interface Dialects {
  /** Registers the addresses of the dialects. */
  register: (app: FastifyInstance) => Promise<void>
  /** Answers their requests at routes of our own, which are registered on `app` later. */
  share: (app: FastifyInstance) => void
}

/** Loads the modules of the named dialects only. */
export async function openDialects(
  names: readonly DialectName[],
  options: DialectOptions,
): Promise<Dialects> {
  const dialects = await Promise.all(names.map(async (name) => (await DIALECTS[name]()).dialect))
  return {
    async register(app) {
      for (const [errorMembers, ofAll] of byErrors(dialects))
        await app.register((scope, _options, done) => {
          scope.setErrorHandler((error, request, reply) =>
            sendProblem(error, request, reply, errorMembers),
          )
          acceptClientBodies(scope)
          for (const routes of ofAll) routes(scope.withTypeProvider<TypeBoxTypeProvider>(), options)
          done()
        })
      app.unmatchedMembers = ({ url }) => (CLIENT_PATH.test(url) ? errorAndMessage : undefined)
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

function byErrors(dialects: readonly Dialect[]): Map<ErrorMembers, DialectRoutes[]> {
  const groups = new Map<ErrorMembers, DialectRoutes[]>()
  for (const { routes, errorMembers } of dialects)
    if (routes !== undefined)
      groups.set(errorMembers, [...(groups.get(errorMembers) ?? []), routes])
  return groups
}
