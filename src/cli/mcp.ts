/** `tandem mcp`: the tools for assistants that start a command and speak over its pipes. */
import type { Command } from 'commander'
import { readConfig } from '../config.js'
import { TandemError } from '../errors.js'
import type { ToolService } from '../http/dialects/mcp/tools.js'
import type { Client } from './client.js'
import { withServiceOptions, type ServiceOptions } from './options.js'
import { withService } from './service.js'
import { printLine, type Terminal } from './terminal/terminal.js'

export function addMcpCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command('mcp')
    .description('serve the tools of the Model Context Protocol on standard input and output')
  withServiceOptions(command).action(async (options: ServiceOptions) => {
    await withService(options, readConfig(process.env), (client) => serve(client, terminal))
  })
}

/** Resolves when standard input ends, or on SIGTERM or Ctrl-C. */
async function serve(client: Client, terminal: Terminal): Promise<void> {
  const { serveStdio } = await import('@modelcontextprotocol/server/stdio')
  const { toolServer } = await import('../http/dialects/mcp/server.js')
  const service = serviceOf(client)
  await new Promise<void>((resolve) => {
    const server = serveStdio(() => toolServer(service, (error) => (error as Error).message), {
      onerror: ({ message }) => printLine(terminal.err, `tandem mcp: ${message}`),
    })
    process.stdin.once('close', resolve)
    for (const signal of ['SIGTERM', 'SIGINT'] as const)
      process.once(signal, () => void server.close().finally(resolve))
  })
}

function serviceOf(client: Client): ToolService {
  return {
    search: (body) => client.searchBy(body),
    item: async (id) => {
      const item = await client.item(id)
      if (item === undefined) throw new TandemError('item_not_found', { id })
      return item
    },
    image: (id) => client.image(id),
    imageUrl: (id) => client.imageUrl(id),
  }
}
