/**
 * Every command of README and documents: run against a service with the tiny bundle, or, where it
 * cannot run in a test, checked for programs, files and options that exist, with the reason.
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { promisify } from 'node:util'
import type { Command } from 'commander'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { tandemProgram } from '../../src/cli/program.js'
import { packageFolder, packageInfo, readConfig } from '../../src/config.js'
import { buildApp, type Tandem } from '../../src/http/app.js'
import { helm, template } from '../deploy/chart.js'
import { argumentsOf, documents, shellBlocks } from '../support/documents.js'

const noService = (): Promise<never> => Promise.reject(new Error('`tandem serve` is not run here.'))

vi.setConfig({ testTimeout: 60_000 })

const BUNDLES = ['tandem-large', 'mine', 'NAME']
const ITEMS = ['beach', 'photo-1', 'photo-2']
const scripts = (
  JSON.parse(readFileSync(join(packageFolder, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>
  }
).scripts

interface Reembedding {
  serving: { model: string }
  reembedding: { state: string } | null
}

let folder: string
let tandem: Tandem
let address: string

const photo = (background: string): Promise<Buffer> =>
  sharp({ create: { width: 60, height: 40, channels: 3, background } })
    .jpeg()
    .toBuffer()

/** A copy of the tiny bundle; its number of line ends changes its fingerprint. */
function copyBundle(target: string, ends: number): void {
  cpSync(join(packageFolder, 'test/fixtures/tiny-bundle'), target, { recursive: true })
  const file = join(target, 'manifest.json')
  const manifest = JSON.parse(readFileSync(file, 'utf8')) as {
    text_encoder: { tokenizer: string }
    files: { path: string; bytes: number; sha256: string }[]
  }
  const tokenizer = join(target, manifest.text_encoder.tokenizer)
  writeFileSync(tokenizer, readFileSync(tokenizer, 'utf8') + '\n'.repeat(ends))
  const content = readFileSync(tokenizer)
  for (const entry of manifest.files) {
    if (entry.path !== manifest.text_encoder.tokenizer) continue
    entry.bytes = content.length
    entry.sha256 = createHash('sha256').update(content).digest('hex')
  }
  writeFileSync(file, JSON.stringify(manifest))
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tandem-commands-'))
  const bundles = join(folder, 'models')
  cpSync(join(packageFolder, 'test/fixtures/tiny-bundle'), join(bundles, 'tiny'), {
    recursive: true,
  })
  for (const [at, name] of BUNDLES.entries()) copyBundle(join(bundles, name), at + 1)
  for (const [name, colour] of [
    ['photo.jpg', 'blue'],
    ['other.jpg', 'green'],
    ['beach.jpg', 'orange'],
  ] as const) {
    writeFileSync(join(folder, name), await photo(colour))
  }
  for (const home of ['Pictures', 'photos']) {
    mkdirSync(join(folder, home))
    writeFileSync(join(folder, home, 'red.jpg'), await photo('red'))
  }
  vi.stubEnv('TANDEM_DATA_DIR', join(folder, 'data'))
  vi.stubEnv('TANDEM_MODEL', join(bundles, 'tiny'))
  vi.stubEnv('INFERENCE_THREADS', '1')
  tandem = await buildApp({ ...readConfig(process.env), logLevel: 'silent' })
  await tandem.start()
  address = await tandem.app.listen({ port: 0 })
})
afterAll(async () => {
  vi.unstubAllEnvs()
  await tandem.close()
  rmSync(folder, { recursive: true })
})

/** Gives a command what it needs: some items, and where it speaks of a bundle, a prepared one. */
async function prepare(line: string): Promise<void> {
  const command = line.replace(/\s#.*$/gm, '')
  const send = (
    method: 'PUT' | 'GET' | 'POST',
    url: string,
    payload?: object | Buffer,
    type = 'application/json',
  ) =>
    tandem.app.inject({
      method,
      url,
      ...(payload === undefined ? {} : { payload, headers: { 'content-type': type } }),
    })
  for (const id of ITEMS) {
    if ((await send('GET', `/items/${id}`)).statusCode === 404)
      await send('PUT', `/items/${id}`, await photo('blue'), 'image/jpeg')
  }
  if (/reembed/.test(command)) {
    const status = async () => (await send('GET', '/reembedding')).json<Reembedding>()
    const end = () => tandem.app.inject({ method: 'DELETE', url: '/reembedding' })
    const begin = async (model: string): Promise<void> => {
      await send('PUT', '/reembedding', { model })
      const state = async () => (await status()).reembedding?.state
      await expect.poll(state, { timeout: 30_000 }).toBe('ready')
    }
    const { serving, reembedding } = await status()
    if (reembedding !== null) await end()
    if (/promote|-X DELETE|reembed end/.test(command)) {
      await begin(BUNDLES.find((name) => name !== serving.model) ?? '')
    } else if (serving.model !== 'tiny' && command.includes(serving.model)) {
      await begin('tiny')
      await send('POST', '/reembedding/promote')
      await end()
    }
  }
  const kept = (await send('GET', '/backups')).json<{ backups: { name: string }[] }>().backups
  const named = kept.some(({ name }) => name === 'before-the-import')
  if (/before-the-import/.test(command)) {
    const makes = /name=|backup before/.test(command)
    if (makes && named)
      await tandem.app.inject({ method: 'DELETE', url: '/backups/before-the-import' })
    if (!makes && !named) await send('POST', '/backups?name=before-the-import')
  }
}

/** Runs a line of shell; a reply of HTTP with an error fails it. */
async function runShell(command: string): Promise<void> {
  const here = command.replaceAll('http://127.0.0.1:3000', address)
  const script = `curl() { command curl -sS --fail-with-body "$@"; }\nset -euo pipefail\n${here}`
  await promisify(execFile)('bash', ['-c', script], {
    cwd: folder,
    env: { PATH: process.env['PATH'], tandem: address },
  }).catch((error: { stdout: string; stderr: string }) => {
    expect.fail(`${command}\n${error.stdout}${error.stderr}`)
  })
}

/** The arguments of a command of `npx tandem`, without those that name another service. */
function tandemArguments(command: string): string[] {
  const [, ...args] = argumentsOf('npx', command.replace(/^(\w+=\S* )+/, ''), folder)
  return args.map((arg) => arg.replace('http://127.0.0.1:3000', address))
}

/** The subcommand that arguments name; fails for an option that it does not have. */
function checkedCommand(args: readonly string[]): Command {
  const program = tandemProgram({ out: new PassThrough(), err: new PassThrough() }, noService)
  let command: Command = program
  for (const [place, arg] of args.entries()) {
    const next = command.commands.find((one) => one.name() === arg)
    if (next === undefined) {
      expect(place, `tandem has no command ${arg}`).toBeGreaterThan(0)
      break
    }
    command = next
  }
  const known = command.options.flatMap(({ short, long }) => [short, long])
  for (const arg of args) {
    if (/^--?[a-z]/.test(arg)) expect(known, args.join(' ')).toContain(arg.split('=')[0])
  }
  return command
}

async function runTandem(command: string): Promise<void> {
  const args = tandemArguments(command)
  const found = checkedCommand(args)
  const asksService = found.options.some(({ long }) => long === '--url')
  const url = asksService && !args.includes('--url') ? ['--url', address] : []
  const [out, err] = [new PassThrough(), new PassThrough()]
  await tandemProgram({ out, err }, noService)
    .exitOverride()
    .parseAsync([...args, ...url], { from: 'user' })
  expect(process.exitCode ?? 0, `${command}\n${String(err.read())}${String(out.read())}`).toBe(0)
}

const checkTandem = (command: string): void => {
  checkedCommand(tandemArguments(command))
}

function checkNpm(command: string): void {
  for (const [, script = ''] of command.matchAll(/npm (?:run )?((?!ci\b|run\b|install\b)[\w:]+)/g))
    expect(scripts, command).toHaveProperty(script)
}

function checkPackage(command: string): void {
  expect(command).toContain(`tandem-${packageInfo.version}.tgz`)
}

/** The modules, options and recipes of a command of the trainer exist. */
function checkTrainer(command: string): void {
  const training = join(packageFolder, 'training')
  const [, module = ''] = /python -m ([\w.]+)/.exec(command) ?? []
  const file = join(training, `${module.replaceAll('.', '/')}.py`)
  expect(existsSync(file), file).toBe(true)
  const sources = [file, join(training, 'tandem_training/bundle/write.py')]
    .map((path) => readFileSync(path, 'utf8'))
    .join('\n')
  for (const [option] of command.matchAll(/(?<= )--[a-z-]+/g)) {
    expect(sources, command).toContain(`"${option}"`)
  }
  for (const [recipe] of command.matchAll(/recipes\/[\w/-]+\.toml/g))
    expect(existsSync(join(training, recipe)), recipe).toBe(true)
}

/** Renders the chart with the values of an installation, where helm is found. */
function checkHelm(command: string): void {
  const args = argumentsOf('helm', command)
  expect(args).toContain('photos')
  if (helm === null || args[0] !== 'install') return
  expect(() => template(...args.slice(3))).not.toThrow()
}

function checkDocker(command: string): void {
  const args = argumentsOf('docker', command)
  const known = { build: ['-t'], run: ['-p', '-e', '-v'] }[args[0] ?? '']
  expect(known, command).toBeDefined()
  for (const option of args.filter((arg) => arg.startsWith('-'))) expect(known).toContain(option)
  for (const [at, option] of args.entries()) {
    const [name = '', value = ''] = (args[at + 1] ?? '').split('=')
    if (option === '-e') expect(() => readConfig({ [name]: value })).not.toThrow()
  }
  expect(existsSync(join(packageFolder, 'Dockerfile'))).toBe(true)
}

/** Commands that no test can run, why not, and what of them is checked; the first that fits. */
const CHECKED: readonly [RegExp, string, (command: string) => void][] = [
  [/npm install \.\/tandem/, 'test/scripts/package.test.ts packs and installs', checkPackage],
  [
    /npm (ci|test|start|run)\b/,
    'installs, or is this very suite or a server without end',
    checkNpm,
  ],
  [/^docker /, 'needs a registry; test/deploy/image.sh builds and starts the image', checkDocker],
  [/^helm /, 'needs a cluster; test/deploy/api-server.test.ts installs the chart', checkHelm],
  [
    /venv .*pip install/,
    'downloads gigabytes; scripts/test.sh makes this environment',
    () => {
      expect(existsSync(join(packageFolder, 'training/pyproject.toml'))).toBe(true)
    },
  ],
  [
    /python -m tandem_training/,
    'trains or exports; fine-tuning.test.ts runs a short form',
    checkTrainer,
  ],
  [/tandem serve/, 'runs without end; test/server.test.ts starts it', checkTandem],
  [/tandem mcp/, 'runs without end; test/cli/mcp.test.ts speaks to it', checkTandem],
  [
    /tandem models add/,
    'needs a model or the hub; test/cli/models.test.ts has a local one',
    checkTandem,
  ],
  [
    /tandem (calibrate|evaluate)/,
    'needs captioned images; the tests of test/cli have some',
    checkTandem,
  ],
  [
    /tandem bench-model/,
    'measures for a minute; test/cli/bench-model.test.ts has a short form',
    checkTandem,
  ],
  [/tandem (migrate|images)/, 'needs Milvus; test/cli has their tests', checkTandem],
  [
    /tandem (rebuild|check)/,
    'refuses while a service runs; test/e2e/command.test.ts runs both',
    checkTandem,
  ],
  [
    /^export MILVUS_ADDRESS/,
    'settings of the next line',
    (command) => {
      expect(Object.keys(process.env)).not.toContain('MILVUS_ADDRESS')
      expect(command).toMatch(/ IMAGE_STORE=s3:/)
    },
  ],
]

const commands = documents.flatMap((document) =>
  shellBlocks(document)
    .flat()
    .map((command) => ({ document, command })),
)

describe('the commands of the documents', () => {
  it.each(commands)('$document: $command', async ({ command }) => {
    const rule = CHECKED.find(([pattern]) => pattern.test(command))
    if (rule !== undefined) {
      rule[2](command)
      return
    }
    await prepare(command)
    if (/^(\w+=\S+ )*npx tandem /.test(command)) await runTandem(command)
    else await runShell(command)
  })

  it('every reason not to run a command stands for one', () => {
    for (const [pattern] of CHECKED)
      expect(
        commands.filter(({ command }) => pattern.test(command)),
        String(pattern),
      ).not.toEqual([])
  })

  it('a command that does not exist is found', async () => {
    expect(() => checkTandem('npx tandem serch "x"')).toThrow('no command serch')
    expect(() => checkTandem('npx tandem search x --rerank-depth 4')).toThrow('--rerank-depth')
    expect(() => checkNpm('npm run demos')).toThrow('demos')
    await expect(runShell('curl "$tandem/serch?q=x"')).rejects.toThrow('route_not_found')
  })
})
