/** A worker that dies: callers are told, a new one is started, and answers come again. */
import { once } from 'node:events'
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Worker } from 'node:worker_threads'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { openModels, type Models } from '../../src/model.js'

const started = vi.hoisted((): Worker[] => [])

vi.mock('node:worker_threads', async (importOriginal) => {
  const actual = await importOriginal<{ Worker: typeof Worker }>()
  class RecordedWorker extends actual.Worker {
    constructor(...given: ConstructorParameters<typeof actual.Worker>) {
      super(...given)
      started.push(this)
    }
  }
  return { ...actual, Worker: RecordedWorker }
})

const tiny = fileURLToPath(new URL('../fixtures/tiny-bundle', import.meta.url))
let folder: string
let models: Models

beforeEach(async () => {
  started.length = 0
  folder = await mkdtemp(join(tmpdir(), 'tandem-worker-'))
  await cp(tiny, folder, { recursive: true })
  models = await openModels({ folder, inferenceThreads: 1, maxImagePixels: 1e6 })
})

afterEach(async () => {
  await models.close()
  await rm(folder, { recursive: true, force: true })
})

/** A message that is none makes the worker throw, between two runs: ended inside native code, it could end this process. */
async function killWorker(): Promise<void> {
  const worker = started[0]
  if (worker === undefined) throw new Error('no worker was started')
  const ended = once(worker, 'exit')
  worker.postMessage(null)
  await ended.catch(() => undefined)
}

const encode = async (): Promise<number[]> => [...((await models.encodeTexts(['red'])).encoded[0]?.embedding ?? [])]

describe('when the worker dies', () => {
  it('what runs and waits fails as unavailable; a new worker answers the same', async () => {
    const before = await encode()
    const outcomes = Promise.allSettled(Array.from({ length: 6 }, encode))
    await killWorker()
    const reasons = (await outcomes).flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as unknown] : []))
    expect(reasons.length).toBeGreaterThan(0)
    for (const reason of reasons) expect(reason).toMatchObject({ code: 'model_unavailable', retryAfterS: 1 })
    expect(models.stats()).toEqual({ queueDepth: 0, inFlight: 0 })

    await expect(encode()).rejects.toMatchObject({ code: 'model_unavailable' })
    await expect.poll(encode, { timeout: 15_000 }).toEqual(before)
    expect(started).toHaveLength(2)
  })

  it('a worker that cannot start is tried again', async () => {
    await rm(join(folder, 'text-encoder.onnx'))
    await killWorker()
    await expect.poll(() => started.length, { timeout: 15_000 }).toBeGreaterThanOrEqual(3)
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

  it('none is started after the close', async () => {
    await models.close()
    await new Promise((resolve) => setTimeout(resolve, 700))
    expect(started).toHaveLength(1)
  })
})
