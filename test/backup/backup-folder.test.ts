import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openBackups } from '../../src/backup/backup-folder.js'

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-backup-folder-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

async function unfinished(owner: string): Promise<string> {
  const name = `.unfinished-${owner}-b1`
  await mkdir(join(folder, name, 'items'), { recursive: true })
  await writeFile(join(folder, name, 'items', 'data.mdb'), 'part')
  return name
}

describe('the check before a backup', () => {
  it('removes what a killed backup of the same store left, before it counts the free bytes', async () => {
    await unfinished('own')
    const others = await unfinished('other')
    const check = openBackups(folder, 'own').check('b2', Number.MAX_SAFE_INTEGER)
    await expect(check).rejects.toMatchObject({ code: 'storage_full' })
    expect(await readdir(folder)).toEqual([others])
  })

  it('leaves a backup alone that another request has started', async () => {
    const backups = openBackups(folder, 'own')
    await backups.check('b1', 1)
    const inProgress = await unfinished('own')
    await backups.check('b2', 1)
    expect(await readdir(folder)).toEqual([inProgress])
  })
})
