import { fork, type ChildProcess, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  announcedService,
  announceService,
  DataFolderLockedError,
  lockDataFolder,
} from '../../src/files/lock.js'

const holder = fileURLToPath(new URL('./lock-holder.ts', import.meta.url))
let folder: string
const children: ChildProcess[] = []

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-lock-'))
})
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  await rm(folder, { recursive: true, force: true })
})

/** Starts another process that tries to lock the folder. @returns its report */
async function startHolder(): Promise<{ child: ChildProcess; report: string }> {
  const child = fork(holder, [folder], { execArgv: ['--import', 'tsx'] })
  children.push(child)
  const [report] = (await once(child, 'message')) as [string]
  return { child, report }
}

describe('the lock of a data folder', () => {
  it('refuses a second holder in the same process and in another, and names the first', async () => {
    const lock = await lockDataFolder(folder, 'the service')
    expect(lock.remark).toBeNull()
    const second = lockDataFolder(folder, 'tandem check')
    await expect(second).rejects.toThrow(DataFolderLockedError)
    await expect(second).rejects.toThrow(
      `${folder} is in use by the service (process ${process.pid} on `,
    )
    const { report } = await startHolder()
    expect(report).toMatch(/in use by the service \(process \d+ on .*, since 2\d{3}-/)
    await lock.release()
  }, 30_000)

  it('can be taken again after its release, which leaves no file', async () => {
    for (let round = 0; round < 3; round += 1)
      await (await lockDataFolder(folder, 'the service')).release()
    expect(await readdir(join(folder, 'lock'))).toEqual([])
    expect((await startHolder()).report).toBe('held')
  }, 30_000)

  it('is released when its holder is killed with kill -9', async () => {
    const { child, report } = await startHolder()
    expect(report).toBe('held')
    await expect(lockDataFolder(folder, 'the service')).rejects.toThrow(`process ${child.pid}`)
    child.kill('SIGKILL')
    await once(child, 'exit')
    // The socket of the killed process remains until another process locks the folder.
    expect(await readdir(join(folder, 'lock'))).toHaveLength(1)
    const lock = await lockDataFolder(folder, 'the service')
    expect(await readdir(join(folder, 'lock'))).toHaveLength(1)
    await lock.release()
  }, 30_000)

  it('refuses a second holder while the first is stopped and does not reply', async () => {
    const { child } = await startHolder()
    child.kill('SIGSTOP')
    await expect(lockDataFolder(folder, 'the service')).rejects.toThrow(
      /in use by a process that does not identify itself/,
    )
    child.kill('SIGCONT')
  }, 30_000)

  it('is held by at most one of many concurrent callers', async () => {
    const outcomes = await Promise.allSettled(
      Array.from({ length: 12 }, () => lockDataFolder(folder, 'a test')),
    )
    const locks = outcomes.flatMap((outcome) =>
      outcome.status === 'fulfilled' ? [outcome.value] : [],
    )
    expect(locks.length).toBeLessThanOrEqual(1)
    for (const lock of locks) await lock.release()
    await (await lockDataFolder(folder, 'the service')).release()
  }, 30_000)

  it('is held on though its files are removed', async () => {
    const lock = await lockDataFolder(folder, 'the service')
    await rm(join(folder, 'lock'), { recursive: true })
    // On Linux at once, elsewhere and for other containers when the socket is there again.
    if (process.platform === 'linux') {
      await expect(lockDataFolder(folder, 'a test')).rejects.toThrow(DataFolderLockedError)
      expect((await startHolder()).report).toContain('in use by the service (process ')
      await rm(join(folder, 'lock'), { recursive: true })
    }
    await expect.poll(() => readdir(join(folder, 'lock')), { timeout: 10_000 }).toHaveLength(1)
    const [name = ''] = await readdir(join(folder, 'lock'))
    const socket = connect(join(folder, 'lock', name))
    const [introduction] = (await once(socket, 'data')) as [Buffer]
    expect(introduction.toString()).toContain('the service (process ')
    await lock.release()
    expect(await readdir(join(folder, 'lock'))).toEqual([])
  }, 30_000)

  it('does not make a data folder again that is removed', async () => {
    const lock = await lockDataFolder(folder, 'the service')
    await rm(folder, { recursive: true })
    await new Promise((resolve) => setTimeout(resolve, 2500))
    await expect(readdir(folder)).rejects.toThrow('ENOENT')
    await lock.release()
  }, 30_000)

  it('locks a folder whose path is too long for a socket', async () => {
    const deep = join(folder, ...Array.from({ length: 20 }, () => 'a long name of a folder'))
    const lock = await lockDataFolder(deep, 'the service')
    expect(lock.remark).toBeNull()
    await expect(lockDataFolder(deep, 'tandem check')).rejects.toThrow(DataFolderLockedError)
    await lock.release()
    expect(await readdir(join(deep, 'lock'))).toEqual([])
  }, 30_000)
})

describe('the address of the service on a data folder', () => {
  it('is told while the process lives, and not before', async () => {
    expect(await announcedService(folder)).toBeNull()
    await announceService(folder, 'http://127.0.0.1:3000')
    expect(await announcedService(folder)).toBe('http://127.0.0.1:3000')
    expect(await readdir(join(folder, 'service'))).toHaveLength(1)
  })

  it('is not told for a folder that does not exist, which is not made', async () => {
    expect(await announcedService(join(folder, 'none'))).toBeNull()
    expect(await readdir(folder)).not.toContain('none')
  })

  it('is forgotten with a killed process', async () => {
    const sockets = join(folder, 'service')
    await mkdir(sockets, { recursive: true })
    const script = `require('net').createServer((s) => s.end('http://a')).listen(${JSON.stringify(join(sockets, 'x'))}, () => process.kill(process.pid, 'SIGKILL'))`
    spawnSync(process.execPath, ['-e', script])
    expect(await readdir(sockets)).toEqual(['x'])
    expect(await announcedService(folder)).toBeNull()
    expect(await readdir(sockets)).toEqual([])
  })
})
