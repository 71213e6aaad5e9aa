import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { Command } from 'commander'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { addSearchCommand } from '../../src/cli/search.js'
import { announceService } from '../../src/files/lock.js'
import { startTestService, type TestService } from '../support/test-service.js'

const dataFolder = await mkdtemp(join(tmpdir(), 'tandem-'))
let tandem: TestService
let address: string

beforeAll(async () => {
  tandem = await startTestService({ dataFolder })
  const file = { root: '/home/me/photos', path: 'old/dog.jpg', sha256: '0' }
  await tandem.retrieval.add({ id: 'photos/old/dog.jpg', image: Buffer.from('dog'), payload: file })
  await tandem.retrieval.add({ id: 'cat', image: Buffer.from('cat'), payload: null })
  address = await tandem.app.listen({ host: '127.0.0.1', port: 0 })
  await announceService(dataFolder, address)
  vi.stubEnv('TANDEM_DATA_DIR', dataFolder)
})
afterAll(async () => {
  vi.unstubAllEnvs()
  await tandem.end()
  await rm(dataFolder, { recursive: true })
})

async function search(isTTY: boolean, ...args: string[]): Promise<{ out: string; err: string }> {
  const [out, err] = [new PassThrough(), new PassThrough()]
  const terminal = { out: Object.assign(out, { isTTY }), err: Object.assign(err, { isTTY }) }
  const program = new Command().exitOverride().configureOutput({ writeErr: () => undefined })
  addSearchCommand(program, terminal)
  await program.parseAsync(['search', ...args], { from: 'user' })
  const read = (stream: PassThrough): string => (stream.read() as Buffer | null)?.toString() ?? ''
  return { out: read(out), err: read(err) }
}

describe('tandem search without --url', () => {
  it('asks the service that runs on the data folder, and says so on a terminal', async () => {
    const { out, err } = await search(true, 'dog')
    expect(err).toBe(`Asking the service at ${address}, which runs on ${dataFolder}.\n`)
    expect(out).toMatch(/^ +1 {2}match .* %/)
    expect((await search(false, 'dog')).err).toBe('')
  })

  it('prints the path of the file, and the id of an item without one', async () => {
    const lines = (await search(false, 'dog')).out.split('\n')
    expect(lines[0]).toMatch(/ {2}\/home\/me\/photos\/old\/dog\.jpg$/)
    expect(lines[1]).toMatch(/ {2}cat$/)
    expect(lines[2]).toMatch(/^2 hits in \d+ ms$/)
  })

  it('leaves out hits below --min-match', async () => {
    // Every match of the word models is 0.5.
    expect((await search(false, 'dog', '--min-match', '0.5')).out).toMatch(/^2 hits in/m)
    expect((await search(false, 'dog', '--min-match', '0.6')).out).toBe('Nothing found.\n')
    await expect(search(false, 'dog', '--min-match', '1.5')).rejects.toThrow(/number from 0 to 1/)
  })

  it('shows thumbnails only in a terminal that does, and not with --no-images or --json', async () => {
    vi.stubEnv('TERM_PROGRAM', 'iTerm.app')
    vi.stubEnv('TMUX', '')
    vi.stubEnv('TERM', 'xterm')
    const image = '\u001b]1337;File='
    expect((await search(true, 'dog')).out).toContain(image)
    for (const args of [['--no-images'], ['--json']])
      expect((await search(true, 'dog', ...args)).out).not.toContain(image)
    expect((await search(false, 'dog')).out).not.toContain(image)
  })
})
