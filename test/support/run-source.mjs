/**
 * Runs the TypeScript sources: tsx compiles them, and a missing `x.js` resolves to `x.ts`, also as
 * the first file of a worker process. Node loads this file with --import, which worker processes
 * inherit.
 */
import { register } from 'node:module'
import { register as compileTypeScript } from 'tsx/esm/api'

compileTypeScript()
register(new URL('./find-source.mjs', import.meta.url))
