/** `tandem reembed`: changes the bundle of a running service without downtime. */
import type { Command } from 'commander'
import { readConfig } from '../config.js'
import type { Client } from './client.js'
import type { ReembeddingReply } from '../http/schemas/reembedding.js'
import { withServiceOptions, type ServiceOptions } from './options.js'
import { configuredUrl, withService } from './service.js'
import { printLine, startProgress, type Terminal } from './terminal/terminal.js'

const LOOK_AGAIN_MS = 1000

/** The bundle that serves and the one that is being prepared, a line each. */
function statusLines({ serving, reembedding }: ReembeddingReply): string[] {
  const lines = [`serving    ${serving.model ?? 'unnamed'}  fingerprint ${serving.fingerprint}`]
  if (reembedding === null) return [...lines, 'preparing  none']
  const { model, fingerprint, state, items, lag, problem } = reembedding
  lines.push(
    `preparing  ${model ?? 'unnamed'}  fingerprint ${fingerprint}  ${state}, ${items - lag} of ${items} items`,
  )
  return problem === null ? lines : [...lines, `problem    ${problem}`]
}

/**
 * Waits until the bundle is ready. Interrupting it does not stop the service's work.
 *
 * @throws Error if the bundle could not be opened or was dropped
 */
async function waitUntilReady(client: Client, terminal: Terminal): Promise<void> {
  let shown = 0
  const progress = startProgress(
    terminal,
    (await client.reembedding()).reembedding?.items ?? 0,
    'images',
  )
  let problem: string | null = null
  try {
    for (;;) {
      const { reembedding } = await client.reembedding()
      if (reembedding === null) throw new Error('The prepared bundle was dropped.')
      if (reembedding.state === 'failed')
        throw new Error(reembedding.problem ?? 'The bundle could not be opened.')
      const embedded = reembedding.items - reembedding.lag
      progress.advance(Math.max(0, embedded - shown))
      shown = Math.max(shown, embedded)
      if (reembedding.state === 'ready') return
      if (reembedding.problem !== null && reembedding.problem !== problem)
        progress.remark(reembedding.problem)
      problem = reembedding.problem
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS))
    }
  } finally {
    progress.stop()
  }
}

export function addReembedCommands(program: Command, terminal: Terminal): void {
  const reembed = program
    .command('reembed')
    .description(
      'change the bundle of a running service without downtime (needs a key with the scope admin)',
    )
  const add = (name: string, description: string): Command =>
    withServiceOptions(
      reembed.command(name).description(description),
      'the configured HOST and PORT',
    )
  /** Calls the service and prints the status afterwards. */
  const call = async (
    options: ServiceOptions,
    work: (client: Client) => Promise<void>,
  ): Promise<void> => {
    const config = readConfig(process.env)
    await withService({ url: configuredUrl(config), ...options }, config, async (client) => {
      await work(client)
      for (const line of statusLines(await client.reembedding())) printLine(terminal.out, line)
    })
  }

  add(
    'start <bundle>',
    'embed the stored images with the bundle in this folder, beside the configured one',
  )
    .option('--wait', 'until the bundle is ready')
    .action((bundle: string, options: ServiceOptions & { wait?: boolean }) =>
      call(options, async (client) => {
        await client.startReembedding(bundle)
        if (options.wait === true) await waitUntilReady(client, terminal)
      }),
    )
  add(
    'status',
    'print the bundle that serves, the one that is being prepared, and its progress',
  ).action((options: ServiceOptions) => call(options, () => Promise.resolve()))
  add('promote', 'let the prepared bundle serve; the one that served is kept up to date').action(
    (options: ServiceOptions) => call(options, (client) => client.promote()),
  )
  add('end', 'drop the prepared bundle and its embeddings').action((options: ServiceOptions) =>
    call(options, (client) => client.endReembedding()),
  )
}
