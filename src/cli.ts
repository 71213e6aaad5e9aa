#!/usr/bin/env node
/** The `tandem` command: reads arguments, hands them to `cli/`, turns outcomes into exit codes. */
import { readFileSync, rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { Command, InvalidArgumentError, Option } from 'commander'
import { addBenchModelCommand } from './cli/bench-model.js'
import { check, checkLines } from './cli/check.js'
import { readShards, shardsOf } from './cli/dataset.js'
import { evaluate, evaluationTable } from './cli/evaluate.js'
import { indexFolder, summaryLine } from './cli/index-folder.js'
import { destinations, migrate, migrationLines, type Destination } from './cli/migrate.js'
import { listBundles } from './cli/models.js'
import { addImagesCommand } from './cli/images.js'
import { rebuild } from './cli/rebuild.js'
import { backup, restore } from './cli/backup.js'
import { hitLines } from './cli/search.js'
import { ownService, remoteService, type Service } from './cli/service.js'
import { addReembedCommands } from './cli/reembed.js'
import { printLine, type Terminal } from './cli/terminal.js'
import { packageFolder, readConfig, type Config } from './config.js'
import { newKey, scopes, type Scope } from './auth/keys.js'

const { version } = JSON.parse(readFileSync(join(packageFolder, 'package.json'), 'utf8')) as {
  version: string
}
const terminal: Terminal = { out: process.stdout, err: process.stderr }

interface ServiceOptions {
  url?: string
  key?: string
}

function wholeNumber(least: number, most: number): (raw: string) => number {
  return (raw) => {
    const value = /^\d+$/.test(raw) ? Number(raw) : Number.NaN
    if (value >= least && value <= most) return value
    throw new InvalidArgumentError(`Expected a whole number from ${least} to ${most}.`)
  }
}

function serviceUrl(raw: string): string {
  if (URL.canParse(raw) && /^https?:$/.test(new URL(raw).protocol)) return raw
  throw new InvalidArgumentError('Expected an address such as http://127.0.0.1:3000.')
}

/** Runs `work` against the service that the options name, and closes it whatever happens. */
async function withService<Out>(
  options: ServiceOptions,
  config: Config,
  work: (service: Service) => Promise<Out>,
): Promise<Out> {
  const service =
    options.url === undefined
      ? await ownService(config)
      : remoteService(options.url, options.key ?? config.apiKeys[0])
  try {
    return await work(service)
  } finally {
    await service.close()
  }
}

function withServiceOptions(command: Command): Command {
  return command
    .option(
      '--url <address>',
      'use the service that runs at this address (default: open the data folder)',
      serviceUrl,
    )
    .option('--key <key>', 'API key for --url (default: the first of API_KEYS)')
}

const program = new Command('tandem')
  .description('Image-text retrieval: serve, index and search images with sentences')
  .version(version)
  .showHelpAfterError('(--help says what is expected)')

program
  .command('serve')
  .description('run the service until SIGTERM or Ctrl-C (as npm start)')
  .action(async () => {
    await import('./server.js')
  })

withServiceOptions(
  program.command('index').argument('<folder>', 'folder of images, read with all folders below it'),
)
  .description('store the images of a folder; run again, it skips what is stored and unchanged')
  .action(async (folder: string, options: ServiceOptions) => {
    const outcome = await withService(options, readConfig(process.env), ({ client }) =>
      indexFolder(client, folder, terminal),
    )
    printLine(terminal.out, summaryLine(outcome))
    if (outcome.failed.length > 0) process.exitCode = 1
  })

interface SearchFlags extends ServiceOptions {
  k: number
  rerank: boolean
  filter?: string
  json?: boolean
}

withServiceOptions(program.command('search').argument('<sentence>', 'what the image shows'))
  .description('print the images that a sentence describes')
  .option('-k <hits>', 'hits to print', wholeNumber(1, 1000), 10)
  .option('--no-rerank', 'answer from the dual encoder alone')
  .option(
    '--filter <json>',
    'only images whose payload meets a filter, such as {"must":[{"key":"year","match":2024}]}',
  )
  .option('--json', 'print the answer as JSON')
  .action(async (sentence: string, options: SearchFlags) => {
    // Without the flag the bundle's own default holds.
    const rerank = options.rerank ? undefined : false
    const answer = await withService(options, readConfig(process.env), ({ client }) =>
      client.search(sentence, { k: options.k, rerank, filter: options.filter }),
    )
    printLine(
      terminal.out,
      options.json === true ? JSON.stringify(answer, null, 2) : hitLines(answer),
    )
  })

interface EvaluateFlags extends ServiceOptions {
  rerank: boolean
  imageToText: boolean
  candidates: number
  language: string
  limit?: number
  json?: boolean
}

withServiceOptions(
  program
    .command('evaluate')
    .argument('<dataset>', 'a WebDataset shard (.tar), or a folder of shards'),
)
  .description(
    'measure recall@k on images with captions, through the HTTP API (default: a service of its own, with an empty temporary data folder)',
  )
  .option('--candidates <count>', 'how many are recalled for rerank', wholeNumber(10, 1000), 64)
  .option('--no-rerank', 'measure the dual encoder alone')
  .option('--no-image-to-text', 'measure sentence → image alone, which is the shorter part')
  .option('--language <code>', 'language of the captions', 'en')
  .option(
    '--limit <images>',
    'measure the first images only',
    wholeNumber(1, Number.MAX_SAFE_INTEGER),
  )
  .option('--json', 'print the figures as JSON')
  .action(async (dataset: string, options: EvaluateFlags) => {
    const images = (await readShards(await shardsOf(dataset), options.language)).slice(
      0,
      options.limit,
    )
    if (images.length === 0)
      throw new Error(`${dataset} holds no image with captions in "${options.language}".`)
    const dataFolder = await mkdtemp(join(tmpdir(), 'tandem-evaluate-'))
    process.once('SIGINT', () => {
      rmSync(dataFolder, { recursive: true, force: true })
      process.exit(130)
    })
    try {
      const config = { ...readConfig(process.env), dataFolder, port: 0 }
      const result = await withService(options, config, ({ client }) =>
        evaluate(client, images, options, terminal),
      )
      printLine(
        terminal.out,
        options.json === true
          ? JSON.stringify({ dataset, ...result }, null, 2)
          : evaluationTable(result),
      )
    } finally {
      await rm(dataFolder, { recursive: true })
    }
  })

withServiceOptions(
  program.command('backup').argument('[name]', 'of the backup (default: the present time)'),
)
  .description('copy all items into a folder of BACKUP_DIR, while the service serves')
  .action(async (name: string | undefined, options: ServiceOptions) => {
    const config = readConfig(process.env)
    printLine(
      terminal.out,
      await withService(options, config, ({ client }) => backup(client, name, terminal)),
    )
  })

withServiceOptions(program.command('restore').argument('<name>', 'of the backup'))
  .description(
    'make the items those of a backup, while the service serves; run again, it goes on where it ended',
  )
  .action(async (name: string, options: ServiceOptions) => {
    const config = readConfig(process.env)
    printLine(
      terminal.out,
      await withService(options, config, ({ client }) => restore(client, name, terminal)),
    )
  })

program
  .command('models')
  .description('list the bundles of a folder and verify each')
  .argument('[folder]', 'folder of bundles (default: those that come with Tandem)')
  .action(async (folder: string | undefined) => {
    const { lines, broken } = await listBundles(
      folder === undefined ? undefined : resolve(folder),
      readConfig(process.env),
    )
    for (const line of lines) printLine(terminal.out, line)
    if (broken > 0) process.exitCode = 1
  })

program
  .command('check')
  .description(
    'compare store, index and exact search with one another (the service must be stopped)',
  )
  .option('--sample <items>', 'items whose neighbours are compared', wholeNumber(1, 1_000_000), 200)
  .option('--repair', 'make the index again from the store where it is not sound')
  .action(async (options: { sample: number; repair?: boolean }) => {
    const config = readConfig(process.env)
    const outcome = await check(config, { sample: options.sample, repair: options.repair === true })
    for (const line of checkLines(outcome)) printLine(terminal.out, line)
    if (!outcome.isSound) process.exitCode = 1
  })

program
  .command('key')
  .description(
    'make an API key: it is printed once, and the line for API_KEYS_FILE goes to standard output',
  )
  .argument('<name>', 'names the key in logs')
  .addOption(
    new Option('--scope <scope...>', 'what it may do; write implies read, and admin everything')
      .choices(scopes)
      .makeOptionMandatory(),
  )
  .action((name: string, options: { scope: Scope[] }) => {
    const { key, line } = newKey(name, options.scope)
    printLine(terminal.err, `The key, which cannot be shown again: ${key}`)
    printLine(terminal.out, line)
  })

program
  .command('migrate')
  .description(
    'copy the items of the data folder into Milvus, or back, while the source serves; run again, it goes on where it ended',
  )
  .addOption(
    new Option('--to <collection>', 'where they are to be')
      .choices(destinations)
      .makeOptionMandatory(),
  )
  .action(async ({ to }: { to: Destination }) => {
    const outcome = await migrate(readConfig(process.env), to, terminal)
    for (const line of migrationLines(outcome)) printLine(terminal.out, line)
    if (outcome.faults.length > 0) process.exitCode = 1
  })

program
  .command('rebuild')
  .description(
    're-embed every stored image with the configured bundle, after a change of bundle (the service must be stopped)',
  )
  .action(async () => {
    const config = readConfig(process.env)
    const { items } = await rebuild(config, terminal)
    printLine(terminal.out, `${items} items re-embedded`)
  })

addBenchModelCommand(program, terminal, wholeNumber)
addImagesCommand(program, terminal, wholeNumber(1, 8760))
addReembedCommands(program, serviceUrl, terminal)

try {
  await program.parseAsync()
} catch (error) {
  printLine(terminal.err, `tandem: ${(error as Error).message}`)
  process.exitCode = 1
}
