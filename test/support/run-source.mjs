/**
 * Lets tests run the sources as they are: tsx compiles them, and a file named .js that exists only as .ts is found,
 * also where it is the first file of a worker process. Given to node with --import, which worker processes inherit.
 */
import { register } from 'node:module'
import { register as compileTypeScript } from 'tsx/esm/api'

compileTypeScript()
register(new URL('./find-source.mjs', import.meta.url))
