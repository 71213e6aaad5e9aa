/** `tandem standby`: changes the bundle of a running service without downtime. */
import type { Command } from 'commander'
import { readConfig } from '../config.js'
import type { Client, StandbyAnswer } from './client.js'
import { configuredUrl, remoteService } from './service.js'
import { printLine, startProgress, type Terminal } from './terminal.js'

const LOOK_AGAIN_MS = 1000

/** Which bundle serves and which one stands by, a line each. */
export function standbyLines({ serving, standby }: StandbyAnswer): string[] {
  const lines = [`serving  ${serving.model ?? 'unnamed'}  fingerprint ${serving.fingerprint}`]
  if (standby === null) return [...lines, 'standby  none']
  const { model, fingerprint, state, items, behind, problem } = standby
  lines.push(
    `standby  ${model ?? 'unnamed'}  fingerprint ${fingerprint}  ${state}, ${items - behind} of ${items} items`,
  )
  return problem === null ? lines : [...lines, `problem  ${problem}`]
}

/**
 * Follows the standby until it is level. Ending this ends nothing in the service.
 *
 * @throws Error when it could not be opened, or is ended meanwhile
 */
async function waitUntilLevel(client: Client, terminal: Terminal): Promise<void> {
  let shown = 0
  const progress = startProgress(terminal, (await client.standby()).standby?.items ?? 0, 'images')
  let problem: string | null = null
  try {
    for (;;) {
      const { standby } = await client.standby()
      if (standby === null) throw new Error('The standby was ended.')
      if (standby.state === 'failed')
        throw new Error(standby.problem ?? 'The standby could not be opened.')
      const followed = standby.items - standby.behind
      progress.advance(Math.max(0, followed - shown))
      shown = Math.max(shown, followed)
      if (standby.state === 'level') return
      if (standby.problem !== null && standby.problem !== problem) progress.remark(standby.problem)
      problem = standby.problem
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS))
    }
  } finally {
    progress.stop()
  }
}

interface ServiceOptions {
  url?: string
  key?: string
}

/** @param readUrl - of an option; refuses what is no address */
export function addStandbyCommands(
  program: Command,
  readUrl: (raw: string) => string,
  terminal: Terminal,
): void {
  const standby = program
    .command('standby')
    .description(
      'change the bundle of a running service without downtime (needs a key with the scope admin)',
    )
  const add = (name: string, description: string): Command =>
    standby
      .command(name)
      .description(description)
      .option(
        '--url <address>',
        'of the service (default: where the settings say that it listens)',
        readUrl,
      )
      .option('--key <key>', 'API key (default: the first of API_KEYS)')
  /** Does the work and prints how things stand then. */
  const ask = async (
    { url, key }: ServiceOptions,
    work: (client: Client) => Promise<void>,
  ): Promise<void> => {
    const config = readConfig(process.env)
    const { client } = remoteService(url ?? configuredUrl(config), key ?? config.apiKeys[0])
    await work(client)
    for (const line of standbyLines(await client.standby())) printLine(terminal.out, line)
  }

  add(
    'start <bundle>',
    'let the bundle in this folder, beside the configured one, stand by and embed the stored images',
  )
    .option('--wait', 'until it is level with the items')
    .action((bundle: string, options: ServiceOptions & { wait?: boolean }) =>
      ask(options, async (client) => {
        await client.startStandby(bundle)
        if (options.wait === true) await waitUntilLevel(client, terminal)
      }),
    )
  add('status', 'print which bundle serves, which one stands by, and how far it is').action(
    (options: ServiceOptions) => ask(options, () => Promise.resolve()),
  )
  add('switch', 'let the standby serve; the bundle that served stands by').action(
    (options: ServiceOptions) => ask(options, (client) => client.switchStandby()),
  )
  add('end', 'end the standby and drop what it has embedded').action((options: ServiceOptions) =>
    ask(options, (client) => client.endStandby()),
  )
}
