/** Module resolution hook: imports of lmdb resolve to failing-lmdb.ts, except its own. */
import type { ResolveHook } from 'node:module'

const failing = new URL('./failing-lmdb.js', import.meta.url).href

export const resolve: ResolveHook = (specifier, context, next) =>
  next(specifier === 'lmdb' && context.parentURL !== failing ? failing : specifier, context)
