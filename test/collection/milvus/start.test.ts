import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { packageFolder, readConfig } from '../../../src/config.js'
import { openMilvus } from '../../../src/collection/milvus/items.js'
import { openCollection } from '../../../src/collection/open.js'
import { freePort } from '../../support/free-port.js'
import { hasMilvus, Milvus, withoutMilvus } from '../../support/milvus.js'
import { startServer } from '../../support/server-process.js'

vi.setConfig({ testTimeout: 60_000 })

const images = {
  put: () => Promise.resolve('key'),
  get: () => Promise.resolve(undefined),
  remove: () => Promise.resolve(),
}
const bundle = { fingerprint: '0123456789abcdef', dim: 8, images }

describe('a service with VECTOR_INDEX=milvus', { timeout: 120_000 }, () => {
  const log = pino({ level: 'silent' })

  it.each([
    [{}, /MILVUS_ADDRESS/],
    [{ MILVUS_ADDRESS: '127.0.0.1:1' }, /IMAGE_STORE/],
  ])('does not start with the settings %j', async (settings, sentence) => {
    await expect(
      openCollection(readConfig({ VECTOR_INDEX: 'milvus', ...settings }), log),
    ).rejects.toThrow(sentence)
  })

  it('waits for an unavailable Milvus and shuts down cleanly meanwhile', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'tandem-waiting-'))
    const settings = {
      VECTOR_INDEX: 'milvus',
      MILVUS_ADDRESS: `127.0.0.1:${await freePort()}`,
      IMAGE_STORE: folder,
    }
    const program = [
      '--import',
      join(packageFolder, 'test/support/run-source.mjs'),
      join(packageFolder, 'src/server.ts'),
    ]
    const running: ChildProcess[] = []
    const log: string[] = []
    const ready = startServer(program, settings, running, log).catch((error: unknown) => error)
    try {
      const [service] = running as [ChildProcess]
      const ended = once(service, 'exit')
      await expect
        .poll(() => log.join(''), { timeout: 60_000 })
        .toContain('The service keeps trying')
      service.kill('SIGTERM')
      expect(await ended).toEqual([0, null])
      expect(String(await ready)).toMatch(/ended before it was ready/)
      expect(log.join('')).toContain('"stopped"')
      expect(log.join('')).not.toContain('cannot start')
    } finally {
      running[0]?.kill('SIGKILL')
      await rm(folder, { recursive: true, force: true })
    }
  })
})

describe.skipIf(!hasMilvus)(`a collection in Milvus ${withoutMilvus}`, { timeout: 30_000 }, () => {
  let milvus: Milvus

  beforeAll(async () => {
    milvus = await Milvus.start()
  })
  afterAll(() => milvus.end())

  it('is made once by services that start at the same time', async () => {
    const opened = await Promise.all(
      Array.from({ length: 3 }, () => openMilvus({ ...milvus.settings, ...bundle })),
    )
    const [first, second] = opened
    const item = {
      id: 'a',
      payload: null,
      embedding: new Float32Array(8).fill(1),
      imageTokens: new Int8Array(4),
    }
    await first?.put({
      ...item,
      image: { bytes: new Uint8Array(1), mime: 'image/jpeg', width: 1, height: 1 },
    })
    expect(await second?.count()).toBe(1)
    await Promise.all(opened.map((items) => items.close()))
    const again = await openMilvus({ ...milvus.settings, ...bundle })
    expect(again.size).toBe(1)
    await again.close()
  })

  it('of another bundle is refused by an error that names both', async () => {
    const other = openMilvus({ ...milvus.settings, ...bundle, fingerprint: 'fedcba9876543210' })
    await expect(other).rejects.toThrow(/0123456789abcdef[^]*fedcba9876543210/)
  })

  it('with embeddings of another length is refused', async () => {
    await expect(openMilvus({ ...milvus.settings, ...bundle, dim: 16 })).rejects.toThrow(
      /of type FloatVector, and it has one of type FloatVector and 8 values/,
    )
  })
})
