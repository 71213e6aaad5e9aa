/** `tandem mcp` with the client of the SDK, which starts the command. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Client } from '@modelcontextprotocol/client'
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { packageFolder } from '../../src/config.js'
import { startTestService, type TestService } from '../support/test-service.js'

vi.setConfig({ testTimeout: 120_000 })

const KEY = 'first-secret'
const loader = pathToFileURL(join(packageFolder, 'test', 'support', 'run-source.mjs')).href
let tandem: TestService
let address: string
let folder: string
const clients: Client[] = []

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tandem-test-'))
  tandem = await startTestService({ apiKeys: [KEY] })
  await tandem.retrieval.add({ id: 'a/dog', image: Buffer.from('dog 3'), payload: { year: 2024 } })
  address = await tandem.app.listen({ host: '127.0.0.1', port: 0 })
})
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()))
})
afterAll(async () => {
  tandem.app.server.closeAllConnections()
  await tandem.end()
  rmSync(folder, { recursive: true })
})

async function started(...args: string[]): Promise<Client> {
  const client = new Client({ name: 'test', version: '1' })
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: ['--import', loader, join(packageFolder, 'src', 'cli.ts'), 'mcp', ...args],
    cwd: packageFolder,
    env: {
      PATH: process.env['PATH'] ?? '',
      TANDEM_DATA_DIR: join(folder, 'data'),
      TANDEM_MODEL: join(packageFolder, 'test', 'fixtures', 'tiny-bundle'),
      PORT: '0',
      INFERENCE_THREADS: '1',
    },
  })
  await client.connect(transport)
  clients.push(client)
  return client
}

describe('tandem mcp', () => {
  it('searches a running service, shows its images, and answers errors in a sentence', async () => {
    const client = await started('--url', address, '--key', KEY)
    const { tools } = await client.listTools()
    expect(tools.map(({ name }) => name)).toContain('search_images')
    const filter = { must: [{ key: 'year', match: 2024 }] }
    const found = await client.callTool({
      name: 'search_images',
      arguments: { text: 'dog', filter },
    })
    expect(found.structuredContent).toMatchObject({
      applied: { text: 'dog', filter },
      hits: [{ id: 'a/dog', url: `${address}/items/a%2Fdog/image` }],
    })
    const { content } = await client.callTool({ name: 'view_image', arguments: { id: 'a/dog' } })
    const stored = Buffer.from(await tandem.retrieval.image('a/dog')).toString('base64')
    expect(content[0]).toEqual({ type: 'image', data: stored, mimeType: 'image/jpeg' })

    const answers = [
      await client.callTool({ name: 'fetch', arguments: { id: 'nothing' } }),
      await client.callTool({ name: 'search_images', arguments: { text: 'a', candidates: 3 } }),
    ]
    expect(answers).toMatchObject([
      { isError: true, content: [{ text: 'There is no item with the id "nothing".' }] },
      { isError: true, content: [{ text: 'candidates is 3; expected at least k, which is 10.' }] },
    ])
  })

  it('answers a wrong key in a sentence, and no service by its address', async () => {
    const search = { name: 'search', arguments: { query: 'dog' } }
    const client = await started('--url', address, '--key', 'another-secret')
    expect(await client.callTool(search)).toMatchObject({
      isError: true,
      content: [{ text: expect.stringContaining('the one given is unknown') as string }],
    })
    const nowhere = await started('--url', 'http://127.0.0.1:9', '--key', KEY)
    expect(await nowhere.callTool(search)).toMatchObject({
      isError: true,
      content: [{ text: expect.stringContaining('http://127.0.0.1:9/') as string }],
    })
  })

  it('opens the data folder without a service, and closes it when the assistant ends', async () => {
    const client = await started()
    const search = { name: 'search', arguments: { query: 'dog' } }
    expect((await client.callTool(search)).structuredContent).toEqual({ results: [] })
    const transport = client.transport as StdioClientTransport
    const { pid } = transport
    await client.close()
    await vi.waitFor(() => expect(() => process.kill(pid ?? 0, 0)).toThrow(), 10_000)
    // A second one may open it.
    await started()
    expect(readdirSync(join(folder, 'data'))).toContain('lock')
  })
})
