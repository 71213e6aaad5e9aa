import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { packageFolder } from '../src/config.js'

const other = createServer()
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-port-'))
  await once(other.listen(0, '127.0.0.1'), 'listening')
})

afterAll(async () => {
  other.close()
  await rm(folder, { recursive: true })
})

it.each(['PORT', 'HEALTH_PORT'])(
  'refuses a %s that another program uses before it opens the model or the data folder',
  async (variable) => {
    const { port } = other.address() as AddressInfo
    const loader = pathToFileURL(join(packageFolder, 'test/support/run-source.mjs')).href
    const child = spawn(process.execPath, ['--import', loader, 'src/server.ts'], {
      cwd: packageFolder,
      env: {
        PATH: process.env['PATH'],
        PORT: '0',
        [variable]: String(port),
        TANDEM_DATA_DIR: folder,
      },
    })
    let output = ''
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (bytes: Buffer) => (output += bytes.toString()))
    const [code] = (await once(child, 'close')) as [number]
    expect(output).toBe(
      `tandem cannot start: Another program uses port ${port} of 127.0.0.1; choose another one with ${variable}.\n`,
    )
    expect(code).toBe(1)
    expect(await readdir(folder)).toEqual([])
  },
  30_000,
)
