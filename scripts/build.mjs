// Compiles the sources into dist/ and bundles what the service loads at its start. On a terminal a
// line counts the seconds.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { clearInterval, setInterval } from 'node:timers'
import { fileURLToPath } from 'node:url'

process.chdir(fileURLToPath(new URL('..', import.meta.url)))
const STEPS = [
  ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json'],
  ['scripts/bundle.mjs'],
]
const begun = Date.now()
const seconds = () => Math.round((Date.now() - begun) / 1000)
const show = (text) => {
  if (process.stdout.isTTY) process.stdout.write(`\r${text}`)
}

show('Compiling …')
const timer = setInterval(() => show(`Compiling … ${seconds()} s`), 1000)
for (const step of STEPS) {
  const [code] = await once(spawn(process.execPath, step, { stdio: 'inherit' }), 'exit')
  if (code !== 0) process.exit(code ?? 1)
}
clearInterval(timer)
show(`Compiled in ${seconds()} s.\n`)
