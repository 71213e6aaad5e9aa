/** What a running service writes outside its folders, its connections, and its workers' secrets. */
import { once } from 'node:events'
import type { ChildProcess } from 'node:child_process'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { jpeg } from '../support/images.js'
import { familyOf, moduleOf, orEmpty } from '../support/process-family.js'
import { startServer } from '../support/server-process.js'

vi.setConfig({ testTimeout: 60_000 })

const KEY = 'a-key-of-clients-0123456789abcdef'
const SECRETS = {
  API_KEYS: KEY,
  AWS_SECRET_ACCESS_KEY: 'a-secret-of-the-bucket',
  MILVUS_TOKEN: 'a-secret-of-milvus',
  SOME_TOKEN: 'a-secret-of-another-program',
}
const root = mkdtempSync(join(tmpdir(), 'tandem-isolation-'))
const [home, temporary, data] = ['home', 'tmp', 'data'].map((name) => join(root, name)) as [
  string,
  string,
  string,
]
const source = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const running: ChildProcess[] = []
/** Addresses outside the loopback interface, in hexadecimal as in /proc/net. */
const outside = new Set<string>()
/** What workers inherited, by the name of their module. */
const inherited = new Map<string, string>()

beforeAll(async () => {
  for (const folder of [home, temporary]) mkdirSync(folder)
  const secrets = join(root, 'secrets.env')
  const lines = Object.entries(SECRETS).map(([name, value]) => `${name}=${value}\n`)
  writeFileSync(secrets, lines.join(''))
  const program = ['--env-file', secrets, `--env-file-if-exists=${secrets}`]
  program.push('--import', source('test/support/run-source.mjs'), source('src/server.ts'))
  const timer = setInterval(observe, 10)
  try {
    const environment = { TANDEM_DATA_DIR: data, HOME: home, TMPDIR: temporary }
    const service = await startServer(program, environment, running)
    const headers = { authorization: `Bearer ${KEY}` }
    const added = await fetch(`${service.address}/items/a`, {
      method: 'PUT',
      headers: { ...headers, 'content-type': 'image/jpeg' },
      body: new Uint8Array(await jpeg()),
    })
    expect(added.status).toBe(201)
    const found = await fetch(`${service.address}/search?q=sea`, { headers })
    expect(found.status).toBe(200)
    observe()
    service.process.kill('SIGTERM')
    await once(service.process, 'exit')
  } finally {
    clearInterval(timer)
  }
}, 60_000)

afterAll(() => {
  // Workers end with the service.
  for (const child of running) child.kill('SIGKILL')
  rmSync(root, { recursive: true })
})

it('no process of the service connects to an address outside the loopback interface', () => {
  expect([...outside]).toEqual([])
})

it('the service writes nothing to the home folder and leaves nothing in the temporary folder', () => {
  // tsx, which compiles the sources for this test, has its cache there.
  const left = readdirSync(temporary).filter((name) => !name.startsWith('tsx-'))
  expect([readdirSync(home), left]).toEqual([[], []])
})

it('no worker has a secret in its environment or an environment file on its command line', () => {
  expect(inherited.size).toBe(3)
  for (const text of inherited.values()) {
    expect(text).toContain(`TMPDIR=${temporary}`)
    for (const secret of Object.values(SECRETS)) expect(text).not.toContain(secret)
    expect(text).not.toContain('--env-file')
    expect(text).not.toContain('secrets.env')
  }
})

/** Notes the connections of all processes, and what the workers inherited. */
function observe(): void {
  const parent = running[0]?.pid
  if (parent === undefined) return
  for (const pid of familyOf(parent)) {
    for (const address of remotesOf(pid)) outside.add(address)
    const name = moduleOf(pid)
    if (pid === parent || !name.endsWith('worker')) continue
    const read = (file: string): string[] =>
      orEmpty(() => [readFileSync(`/proc/${pid}/${file}`, 'utf8')])
    inherited.set(name, [...read('environ'), ...read('cmdline')].join(''))
  }
}

/** Addresses that the sockets of a process are connected to, without those of this machine. */
function remotesOf(pid: number): string[] {
  const inodes = new Set(
    orEmpty(() => readdirSync(`/proc/${pid}/fd`)).flatMap((fd) =>
      orEmpty(() => [/^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1]]),
    ),
  )
  return ['tcp', 'tcp6', 'udp', 'udp6'].flatMap((table) => {
    const rows = orEmpty(() => readFileSync(`/proc/${pid}/net/${table}`, 'utf8').split('\n'))
    return rows.slice(1).flatMap((row) => {
      const [, , remote = '', , , , , , , inode] = row.trim().split(/\s+/)
      const isLocal = /^(?:0{8}|0{32}|[0-9A-F]{6}7F|0{16}FFFF0000[0-9A-F]{6}7F|0{24}01000000):/
      return inode !== undefined && inodes.has(inode) && !isLocal.test(remote) ? [remote] : []
    })
  })
}
