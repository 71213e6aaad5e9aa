/**
 * `tandem index`: stores the images of folders. The id of an item has the folder, and the path of
 * the file below it; its payload holds both, the sha256, and the metadata of the file and of its
 * sidecar. A file whose item has the same values is skipped, so a repeated command resumes.
 */
import { createInterface } from 'node:readline/promises'
import type { Command } from 'commander'
import { readConfig } from '../config.js'
import type { Client } from './client.js'
import { follow } from './indexing/follow.js'
import { goneOfRoots } from './indexing/gone.js'
import type { FoundImages, Remark } from './indexing/image-files.js'
import {
  findImages,
  Indexer,
  summaryLine,
  type IndexOptions,
  type IndexOutcome,
} from './indexing/indexer.js'
import { MetadataReader } from './indexing/metadata-reader.js'
import { withServiceOptions, type ServiceOptions } from './options.js'
import { withService } from './service.js'
import { printLine, type Terminal } from './terminal/terminal.js'

interface CommandOptions extends ServiceOptions {
  exclude: string[]
  prune?: boolean
  watch?: boolean
  dryRun?: boolean
  showLeftOut?: boolean
}

export function addIndexCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command('index')
    .description('store the images of folders; skips those that are stored and unchanged')
    .argument('<paths...>', 'folders of images, with their subfolders, or image files')
    .option(
      '--exclude <pattern>',
      'leave out names or paths such as "raw" or "2024/**/*.gif"; repeatable',
      (pattern: string, others: string[]) => [...others, pattern],
      [],
    )
    .option('--show-left-out', 'name each file and folder that is left out, with the reason')
    .option('--prune', 'remove the items that index made of files of the folders that are gone')
    .option('--watch', 'go on: follow added, changed, renamed and removed files; needs --url')
    .option('--dry-run', 'name the files and their ids, and store and remove nothing')
  withServiceOptions(command).action(async (paths: string[], options: CommandOptions) => {
    const config = readConfig(process.env)
    const { exclude, prune = false, dryRun = false, showLeftOut = false, url } = options
    const indexOptions = { exclude, prune, showLeftOut, maxBytes: config.maxBodyBytes }
    if (options.watch === true && (url === undefined || dryRun)) {
      throw new Error(
        dryRun
          ? '--watch cannot be combined with --dry-run.'
          : '--watch needs --url of a running service, which also answers the searches.',
      )
    }
    if (dryRun && !prune) {
      const failed = await listImages(paths, terminal, indexOptions)
      if (failed.length > 0) process.exitCode = 1
      return
    }
    const work = async (client: Client): Promise<void> => {
      if (dryRun) {
        const failed = await listImages(paths, terminal, indexOptions, client)
        if (failed.length > 0) process.exitCode = 1
        return
      }
      const metadata = await MetadataReader.open()
      try {
        if (options.watch === true) {
          await watchImages(client, metadata, paths, terminal, indexOptions)
          return
        }
        const confirm = terminal.err.isTTY === true ? { confirm: askOnTerminal } : {}
        const all = { ...indexOptions, ...confirm }
        const outcome = await indexImages(client, metadata, paths, terminal, all)
        printLine(terminal.out, summaryLine(outcome))
        if (outcome.failed.length > 0) process.exitCode = 1
      } finally {
        await metadata.close()
      }
    }
    await withService(options, config, work, terminal)
  })
}

/**
 * Stores every image of `paths`. A file that fails does not stop the others.
 *
 * @throws Error for a path that does not exist, before anything is stored
 * @throws ServiceError when the service can store no more files; stored files stay
 */
export async function indexImages(
  client: Client,
  metadata: MetadataReader,
  paths: readonly string[],
  terminal: Terminal,
  options: IndexOptions,
): Promise<IndexOutcome> {
  const found = await findAll(paths, options, (line) => printLine(terminal.err, line))
  return new Indexer(client, terminal, options, metadata).pass(found)
}

/** Follows the files until the signal of the options aborts, or Ctrl-C without one. */
export async function watchImages(
  client: Client,
  metadata: MetadataReader,
  paths: readonly string[],
  terminal: Terminal,
  options: IndexOptions,
  retryMs?: number,
): Promise<void> {
  const interrupt = new AbortController()
  const onSignal = (): void => interrupt.abort()
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, onSignal)
  const signal = options.signal ?? interrupt.signal
  let isFirst = true
  const find = async (): Promise<FoundImages[]> => {
    const found = await findAll(paths, options, (line) => {
      if (isFirst) printLine(terminal.err, line)
    })
    isFirst = false
    return found
  }
  try {
    const indexer = new Indexer(client, terminal, { ...options, signal }, metadata)
    await follow(indexer, terminal, { signal, find, ...(retryMs && { retryMs }) })
  } finally {
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.off(name, onSignal)
  }
}

/**
 * Prints each image that `indexImages` would send, with its id.
 *
 * @param client - to print also each item that it would remove
 * @returns what it could not send
 */
export async function listImages(
  paths: readonly string[],
  terminal: Terminal,
  options: IndexOptions,
  client?: Client,
): Promise<Remark[]> {
  const found = await findAll(paths, options, (line) => printLine(terminal.err, line))
  const images = new Map(found.flatMap(({ images }) => images.map((image) => [image.id, image])))
  for (const { path, id } of images.values()) printLine(terminal.out, `${path} as ${id}`)
  const gone = client === undefined ? [] : await goneOfRoots(client, found, images)
  for (const { path, id } of gone) printLine(terminal.out, `${path} is gone: ${id}`)
  const failed = found.flatMap(({ unreadable }) => unreadable)
  for (const { path, reason } of failed) printLine(terminal.err, `not added: ${path}: ${reason}`)
  return failed
}

async function findAll(
  paths: readonly string[],
  options: IndexOptions,
  print: (line: string) => void,
): Promise<FoundImages[]> {
  const found: FoundImages[] = []
  for (const path of paths) found.push(await findImages(path, options, print))
  return found
}

async function askOnTerminal(question: string): Promise<boolean> {
  const lines = createInterface({ input: process.stdin, output: process.stderr })
  try {
    return /^y(es)?$/i.test(await lines.question(`${question} [y/N] `))
  } finally {
    lines.close()
  }
}
