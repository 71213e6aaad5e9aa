/** A worker that dies: callers are told, a new one is started, and answers come again. */
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { openModels } from '../../../src/model/open.js'
import type { Models } from '../../../src/model/models.js'
import type { WorkerStatus } from '../../../src/worker/worker-process.js'

vi.setConfig({ testTimeout: 60_000 })

const tiny = fileURLToPath(new URL('../../fixtures/tiny-bundle', import.meta.url))
let folder: string
let models: Models

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-worker-'))
  await cp(tiny, folder, { recursive: true })
  models = await openModels({ folder, inferenceThreads: 1, maxImagePixels: 1e6 })
})

afterEach(async () => {
  await models.close()
  await rm(folder, { recursive: true, force: true })
})

const status = (): WorkerStatus =>
  models.workers.find(({ name }) => name === 'inference') as WorkerStatus

/** Resolves when the service knows. */
async function killWorker(): Promise<void> {
  process.kill(status().pid as number, 'SIGKILL')
  await expect.poll(() => status().ready).toBe(false)
}

const encode = async (): Promise<number[]> => [
  ...((await models.encodeTexts(['red'])).encoded[0]?.embedding ?? []),
]

describe('when the worker dies', () => {
  it('what runs and waits fails as unavailable; a new worker answers the same', async () => {
    const before = await encode()
    const outcomes = Promise.allSettled(Array.from({ length: 6 }, encode))
    await killWorker()
    const reasons = (await outcomes).flatMap((outcome) =>
      outcome.status === 'rejected' ? [outcome.reason as unknown] : [],
    )
    expect(reasons.length).toBeGreaterThan(0)
    for (const reason of reasons)
      expect(reason).toMatchObject({ code: 'model_unavailable', retryAfterS: 1 })
    expect(models.stats()).toMatchObject({ queueDepth: 0, inFlight: 0 })

    await expect(encode()).rejects.toMatchObject({ code: 'model_unavailable' })
    await expect.poll(encode, { timeout: 15_000 }).toEqual(before)
    expect(status().restarts).toBe(1)
  })

  it('a worker that cannot start is tried again', async () => {
    await rm(join(folder, 'text-encoder.onnx'))
    await killWorker()
    await expect.poll(() => status().restarts, { timeout: 15_000 }).toBeGreaterThanOrEqual(2)
    await expect(encode()).rejects.toMatchObject({ code: 'model_unavailable' })
    await cp(join(tiny, 'text-encoder.onnx'), join(folder, 'text-encoder.onnx'))
    await expect.poll(encode, { timeout: 15_000 }).toHaveLength(8)
  })

  it('a close lets the batch under way answer', async () => {
    const running = encode()
    await expect.poll(() => models.stats().inFlight).toBe(1)
    await models.close()
    await expect(running).resolves.toHaveLength(8)
  })
})
