/** Which processes run the graphs, and which of them gets a batch. */
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { TandemError } from '../../../src/errors.js'
import { BundleError } from '../../../src/model/bundle/bundle.js'
import { openModels } from '../../../src/model/open.js'
import type { Models } from '../../../src/model/models.js'
import type { ModelsOptions } from '../../../src/model/encoders/local-models.js'
import type { BatchResult } from '../../../src/model/inference/process.js'
import { InferencePool } from '../../../src/model/inference/pool.js'

vi.setConfig({ testTimeout: 60_000 })

/** Stands for a process with a GPU of its own. */
class Device {
  ready = true
  batches = 0
  #done: (() => void)[] = []

  get status(): { name: string; pid: number; ready: boolean; restarts: number } {
    return { name: 'inference', pid: 1, ready: this.ready, restarts: 0 }
  }

  run(): Promise<BatchResult> {
    this.batches += 1
    return new Promise((resolve) =>
      this.#done.push(() => resolve({ outputs: {}, milliseconds: 1 })),
    )
  }

  release(): void {
    this.#done.shift()?.()
  }

  unavailable(): TandemError {
    return new TandemError('model_unavailable', 'away')
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}

const found = { limits: { image: 8, text: 512, fusion: 64, tokens: 1 }, padding: 24 }

describe('several devices', () => {
  it('get a batch each, and the next one goes to the one that is done', async () => {
    const devices = [new Device(), new Device()] as const
    const pool = new InferencePool('cuda', devices, found)
    const runs = [pool.run('text', {}), pool.run('text', {})]
    expect([pool.size, pool.free]).toEqual([2, 0])
    await expect(pool.run('text', {})).rejects.toMatchObject({ code: 'model_unavailable' })
    devices[1].release()
    await runs[1]
    expect(pool.free).toBe(1)
    void pool.run('image', {})
    expect(devices.map(({ batches }) => batches)).toEqual([1, 2])
  })

  it('go on without one that is away, and are away when all are', async () => {
    const devices = [new Device(), new Device()] as const
    const pool = new InferencePool('cuda', devices, found)
    devices[0].ready = false
    expect([pool.ready, pool.free]).toEqual([true, 1])
    void pool.run('text', {})
    expect(devices.map(({ batches }) => batches)).toEqual([0, 1])
    devices[1].ready = false
    expect([pool.ready, pool.free]).toEqual([false, 0])
    await expect(pool.run('text', {})).rejects.toMatchObject({ code: 'model_unavailable' })
  })
})

describe('the providers', () => {
  const folder = fileURLToPath(new URL('../../fixtures/tiny-bundle', import.meta.url))
  const options: ModelsOptions = { folder, inferenceThreads: 1, maxImagePixels: 1e6 }
  let models: Models | undefined

  afterEach(async () => {
    await models?.close()
    models = undefined
  })

  it('are the CPU unless others are named', async () => {
    const notes: string[] = []
    models = await openModels({ ...options, note: (sentence) => notes.push(sentence) })
    expect(notes).toHaveLength(1)
    expect(notes[0]).toMatch(
      /^The graphs run on cpu, in batches of up to \d+ images, \d+ tokens of texts or \d+ pairs\.$/,
    )
  })

  // CI and most machines have no GPU. Where one has, these would pass for another reason than they
  // are here for.
  it.each(['cuda', 'tensorrt'] as const)(
    'refuse to start when %s is not there, rather than compute on the CPU',
    async (provider) => {
      const refusal = openModels({ ...options, providers: [provider] })
      await expect(refusal).rejects.toThrow(BundleError)
      await expect(refusal).rejects.toThrow(
        new RegExp(`^${provider} cannot run the bundle in .*tiny-bundle: `),
      )
    },
  )

  it('are tried in their order, and what failed is reported', async () => {
    const [notes, reports]: [string[], string[]] = [[], []]
    models = await openModels({
      ...options,
      providers: ['tensorrt', 'cuda', 'cpu'],
      devices: [0, 1],
      note: (sentence) => notes.push(sentence),
      report: (sentence) => reports.push(sentence),
    })
    expect(reports).toHaveLength(2)
    expect(reports[0]).toMatch(
      /^tensorrt cannot run the bundle in .* The next provider is tried\.$/,
    )
    expect(reports[1]).toMatch(/^cuda cannot run the bundle/)
    expect(notes[0]).toMatch(/run on cpu,/)
    expect((await models.encodeTexts(['red'])).encoded).toHaveLength(1)
    // Nothing is left of the processes that did not pass: one of inference, one of the decoder.
    expect(models.workers.map(({ name }) => name)).toEqual(['inference', 'decoder'])
  })
})
