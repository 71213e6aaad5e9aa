/** `tandem backup` and `tandem restore`: start the job, show its progress, print its outcome. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { readConfig } from '../config.js'
import type { BackupsReply, JobReply } from '../http/schemas/backups.js'
import type { Client } from './client.js'
import { withServiceOptions, type ServiceOptions } from './options.js'
import { withService } from './service.js'
import { printLine, startProgress, type Progress, type Terminal } from './terminal/terminal.js'

type EndedWork = NonNullable<BackupsReply['last']>

const ASK_EVERY_MS = 250

export function addBackupCommands(program: Command, terminal: Terminal): void {
  const backups = program
    .command('backup')
    .description('copy all items into a folder of BACKUP_DIR, while the service runs')
    .argument('[name]', 'name of the backup (default: the current time)')
  withServiceOptions(backups).action(async (name: string | undefined, options: ServiceOptions) => {
    const work = (client: Client): Promise<string> => backup(client, name, terminal)
    printLine(terminal.out, await withService(options, readConfig(process.env), work))
  })
  const restores = program
    .command('restore')
    .description(
      'restore the items of a backup, while the service runs; resumes an interrupted restore',
    )
    .argument('<name>', 'name of the backup')
  withServiceOptions(restores).action(async (name: string, options: ServiceOptions) => {
    const work = (client: Client): Promise<string> => restore(client, name, terminal)
    printLine(terminal.out, await withService(options, readConfig(process.env), work))
  })
}

/** @throws Error with the reason of a failure */
async function backup(
  client: Client,
  name: string | undefined,
  terminal: Terminal,
): Promise<string> {
  const ended = await endOf(client, await client.beginBackup(name), terminal)
  return `${ended.progress?.items ?? 0} items backed up as ${ended.name}`
}

/** @throws Error with the reason of a failure; items restored before it stay */
async function restore(client: Client, name: string, terminal: Terminal): Promise<string> {
  const { restored } = await endOf(client, await client.beginRestore(name), terminal)
  const { stored = 0, removed = 0, unchanged = 0 } = restored ?? {}
  return `${name} is restored: ${stored} items stored, ${removed} removed, ${unchanged} unchanged`
}

async function endOf(client: Client, begun: JobReply, terminal: Terminal): Promise<EndedWork> {
  let shown: { progress: Progress; items: number } | undefined
  try {
    for (;;) {
      const { running, last } = await client.backups()
      if (last?.started_at === begun.started_at && last.action === begun.action)
        return succeeded(last)
      if (running?.started_at !== begun.started_at) {
        throw new Error(`the outcome of the ${begun.action} is unknown: the service was restarted`)
      }
      if (running.progress !== null) {
        const { items, of } = running.progress
        shown ??= { progress: startProgress(terminal, of, 'items'), items: 0 }
        shown.progress.advance(items - shown.items)
        shown.items = items
      }
      await sleep(ASK_EVERY_MS)
    }
  } finally {
    shown?.progress.stop()
  }
}

function succeeded(ended: EndedWork): EndedWork {
  if (ended.failure !== null)
    throw new Error(`the ${ended.action} of ${ended.name} failed: ${ended.failure.detail}`)
  return ended
}
