import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { DataFolderLockedError, lockDataFolder } from '../../src/files/lock.js'

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

/** Another process that tries to take the folder: what it says about it. */
async function another(place = folder): Promise<{ child: ChildProcess; said: string }> {
  const child = fork(holder, [place], { execArgv: ['--import', 'tsx'] })
  children.push(child)
  const [said] = (await once(child, 'message')) as [string]
  return { child, said }
}

describe('the lock of a data folder', () => {
  it('refuses a second holder in the same process and in another, and names the first', async () => {
    const lock = await lockDataFolder(folder, 'the service')
    expect(lock.remark).toBeNull()
    const refusal = lockDataFolder(folder, 'tandem check')
    await expect(refusal).rejects.toThrow(DataFolderLockedError)
    await expect(refusal).rejects.toThrow(
      `${folder} is in use by the service (process ${process.pid} on `,
    )
    const { said } = await another()
    expect(said).toMatch(/in use by the service \(process \d+ on .*, since 2\d{3}-/)
    await lock.release()
  }, 30_000)

  it('lets the next one in when it is released, and leaves nothing behind', async () => {
    for (let turn = 0; turn < 3; turn += 1)
      await (await lockDataFolder(folder, 'the service')).release()
    expect(await readdir(join(folder, 'lock'))).toEqual([])
    expect((await another()).said).toBe('held')
  }, 30_000)

  it('is free as soon as its holder is killed with kill -9', async () => {
    const { child, said } = await another()
    expect(said).toBe('held')
    await expect(lockDataFolder(folder, 'the service')).rejects.toThrow(`process ${child.pid}`)
    child.kill('SIGKILL')
    await once(child, 'exit')
    // What the killed one left is there, and is in nobody's way.
    expect(await readdir(join(folder, 'lock'))).toHaveLength(1)
    const lock = await lockDataFolder(folder, 'the service')
    expect(await readdir(join(folder, 'lock'))).toHaveLength(1)
    await lock.release()
  }, 30_000)

  it('does not let in a second one while the first is stopped and says nothing', async () => {
    const { child } = await another()
    child.kill('SIGSTOP')
    await expect(lockDataFolder(folder, 'the service')).rejects.toThrow(
      /in use by a process that does not say/,
    )
    child.kill('SIGCONT')
  }, 30_000)

  it('is never held by two of many that come at once', async () => {
    const outcomes = await Promise.allSettled(
      Array.from({ length: 12 }, () => lockDataFolder(folder, 'one of twelve')),
    )
    const held = outcomes.flatMap((outcome) =>
      outcome.status === 'fulfilled' ? [outcome.value] : [],
    )
    expect(held.length).toBeLessThanOrEqual(1)
    for (const lock of held) await lock.release()
    await (await lockDataFolder(folder, 'the service')).release()
  }, 30_000)

  it('holds a folder whose path is longer than that of a socket can be', async () => {
    const deep = join(folder, ...Array.from({ length: 20 }, () => 'a long name of a folder'))
    const lock = await lockDataFolder(deep, 'the service')
    expect(lock.remark).toBeNull()
    await expect(lockDataFolder(deep, 'tandem check')).rejects.toThrow(DataFolderLockedError)
    await lock.release()
    expect(await readdir(join(deep, 'lock'))).toEqual([])
  }, 30_000)
})
