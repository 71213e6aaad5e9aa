import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { sha256OfFile } from '../../src/files/sha256.js'

const PIECE = 1024 * 1024
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-sha256-'))
})

afterAll(() => rm(folder, { recursive: true }))

it.each([0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 17])(
  'digests a file of %i bytes as its bytes in memory',
  async (size) => {
    const bytes = randomBytes(size)
    const path = join(folder, `${size}`)
    await writeFile(path, bytes)
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    expect(await sha256OfFile(path)).toEqual({ bytes: size, sha256 })
  },
)

it('ends with the reason of an aborted signal', async () => {
  const path = join(folder, 'aborted')
  await writeFile(path, 'x')
  const reason = new Error('stopped')
  await expect(sha256OfFile(path, AbortSignal.abort(reason))).rejects.toBe(reason)
})
