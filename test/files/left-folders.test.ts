import { spawnSync } from 'node:child_process'
import { mkdir, mkdtemp, readdir, rm, utimes } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { nameWithProcess, removeLeftFolders } from '../../src/files/left-folders.js'

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'tandem-left-'))
})
afterEach(() => rm(root, { recursive: true }))

it('folders of dead processes are removed, and those of living ones stay', async () => {
  const { pid: dead } = spawnSync(process.execPath, ['--version'])
  const own = await mkdtemp(join(root, nameWithProcess('x-')))
  const before = new Date(Date.now() - process.uptime() * 1000 - 60_000)
  for (const name of [`x-${dead}-a`, `x-${process.ppid}-b`, `x-${process.pid}-c`, 'x-d', 'y-1-e'])
    await mkdir(join(root, name))
  // Made before this process: another one had its id.
  await utimes(join(root, `x-${process.pid}-c`), before, before)
  await removeLeftFolders(root, 'x-')
  expect((await readdir(root)).sort()).toEqual(
    [own.slice(root.length + 1), `x-${process.ppid}-b`, 'x-d', 'y-1-e'].sort(),
  )
  const old = new Date(Date.now() - 48 * 60 * 60 * 1000)
  await utimes(join(root, 'x-d'), old, old)
  await removeLeftFolders(root, 'x-')
  expect(await readdir(root)).not.toContain('x-d')
})
