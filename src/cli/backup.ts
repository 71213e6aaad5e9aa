/** `tandem backup` and `tandem restore`: begin it, show how far it is, and say what came of it. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { BackupsReply, WorkReply } from '../http/schemas/fields.js'
import type { Client } from './client.js'
import { startProgress, type Progress, type Terminal } from './terminal.js'

type EndedWork = NonNullable<BackupsReply['last']>

const ASK_EVERY_MS = 250

/** @throws Error with the reason, where it failed */
export async function backup(
  client: Client,
  name: string | undefined,
  terminal: Terminal,
): Promise<string> {
  const ended = await endOf(client, await client.beginBackup(name), terminal)
  return `${ended.progress?.items ?? 0} items backed up as ${ended.name}`
}

/** @throws Error with the reason, where it failed; what has been restored until then stays */
export async function restore(client: Client, name: string, terminal: Terminal): Promise<string> {
  const { restored } = await endOf(client, await client.beginRestore(name), terminal)
  const { stored = 0, removed = 0, unchanged = 0 } = restored ?? {}
  return `${name} is restored: ${stored} items stored, ${removed} removed, ${unchanged} were the same`
}

async function endOf(client: Client, begun: WorkReply, terminal: Terminal): Promise<EndedWork> {
  let shown: { progress: Progress; items: number } | undefined
  try {
    for (;;) {
      const { running, last } = await client.backups()
      if (last?.started_at === begun.started_at && last.action === begun.action)
        return succeeded(last)
      if (running?.started_at !== begun.started_at) {
        throw new Error(
          `what came of the ${begun.action} is not known: the service was started again`,
        )
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
