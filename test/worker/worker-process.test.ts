/** What every worker has: calls, deaths, restarts, and an end with its parent. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { getPriority } from 'node:os'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import {
  Refusal,
  WorkerProcess,
  type Call,
  type WorkerOptions,
} from '../../src/worker/worker-process.js'
import type { Commands } from './worker.js'

const module = new URL('./worker.js', import.meta.url)
const lost = { name: 'TandemError', code: 'model_unavailable' }
const reports: string[] = []
let worker: WorkerProcess<Commands>

function start(options: Partial<WorkerOptions<Commands>> = {}): Promise<WorkerProcess<Commands>> {
  const report = (sentence: string): void => void reports.push(sentence)
  return WorkerProcess.start({
    name: 'test',
    module,
    code: 'model_unavailable',
    subject: 'The test',
    report,
    ...options,
  })
}

beforeEach(async () => {
  reports.length = 0
  worker = await start()
})

afterEach(() => worker.close())

const kill = (): void => void process.kill(worker.status.pid as number, 'SIGKILL')
const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

describe('a worker', () => {
  it('gives way to the process that started it, unless it is not to', async () => {
    expect(getPriority(worker.status.pid as number)).toBe(Math.min(19, getPriority() + 5))
    const prompt = await start({ givesWay: false })
    expect(getPriority(prompt.status.pid as number)).toBe(getPriority())
    await prompt.close()
  })
})

describe('calls', () => {
  it('carry typed arrays, and are answered as each is done', async () => {
    const ask = {
      floats: new Float32Array([1, -2.5]),
      bytes: new Uint8Array([1, 2, 255]).subarray(1),
      big: new BigInt64Array([-1n]),
    }
    expect(await worker.call('echo', ask)).toEqual(ask)
    const done: number[] = []
    const calls = [300, 1, 150].map((ms) =>
      worker.call('later', { ms, value: ms }).then((value) => done.push(value)),
    )
    await Promise.all(calls)
    expect(done).toEqual([1, 150, 300])
  })

  it('carry 30 MB', async () => {
    const bytes = new Uint8Array(30_000_000).fill(7)
    const answer = (await worker.call('echo', bytes)) as Uint8Array
    expect(Buffer.compare(answer, bytes)).toBe(0)
  })

  it('fail as the worker says, and only they do', async () => {
    const [known, unknown, fine] = await Promise.allSettled([
      worker.call('refuse', { tandem: true }),
      worker.call('refuse', { tandem: false }),
      worker.call('echo', 5),
    ])
    expect(known).toMatchObject({
      reason: { name: 'TandemError', code: 'image_unreadable', message: 'It is cut off.' },
    })
    expect(unknown.status === 'rejected' && unknown.reason).toBeInstanceOf(Refusal)
    expect(unknown).toMatchObject({ reason: { message: 'It cannot be done.' } })
    expect(fine).toEqual({ status: 'fulfilled', value: 5 })
    expect(worker.status).toMatchObject({ ready: true, restarts: 0 })
  })
})

describe('a death', () => {
  it('fails what is under way and what comes, until another process answers', async () => {
    const pid = worker.status.pid
    const calls = Promise.allSettled([
      worker.call('later', { ms: 60_000, value: 1 }),
      worker.call('die', null),
    ])
    for (const outcome of await calls)
      expect(outcome).toMatchObject({ status: 'rejected', reason: { ...lost, retryAfterS: 1 } })
    expect(worker.status).toEqual({ name: 'test', pid: null, ready: false, restarts: 0 })
    await expect(worker.call('echo', 1)).rejects.toMatchObject(lost)
    expect(reports).toEqual([
      `The test process (${pid}) ended with SIGABRT; it is started again in 0.5 s.`,
    ])
    await expect.poll(() => worker.ready, { timeout: 15_000 }).toBe(true)
    expect(await worker.call('echo', 1)).toBe(1)
    expect(worker.status.restarts).toBe(1)
    expect(worker.status.pid).not.toBe(pid)
  })

  it('is followed by a longer pause each time, until a call is answered', async () => {
    const pauses = (): unknown[] => reports.map((sentence) => /in ([\d.]+) s/.exec(sentence)?.[1])
    for (const deaths of [1, 2]) {
      kill()
      await expect.poll(() => worker.status.restarts, { timeout: 15_000 }).toBe(deaths)
      await expect.poll(() => worker.ready, { timeout: 15_000 }).toBe(true)
    }
    await worker.call('echo', 1)
    kill()
    await expect.poll(() => reports.length).toBe(3)
    expect(pauses()).toEqual(['0.5', '1', '0.5'])
  })

  it('of a process that hangs is the limit of the call', async () => {
    const others = Promise.allSettled([
      worker.call('echo', 1),
      worker.call('block', { ms: 60_000 }, 500),
    ])
    expect(await others).toMatchObject([
      { status: 'fulfilled' },
      { status: 'rejected', reason: lost },
    ])
    expect(reports[0]).toMatch(/SIGKILL/)
  })

  it('is told, and so is the return; each fresh process is opened first', async () => {
    await worker.close()
    const open = vi.fn((call: Call<Commands>) => call('echo', 1))
    const [onLost, onReturn] = [vi.fn(), vi.fn()]
    worker = await start({ onLost, onReturn, open })
    expect([open.mock.calls.length, onLost.mock.calls.length, onReturn.mock.calls.length]).toEqual([
      1, 0, 0,
    ])
    kill()
    await expect.poll(() => onReturn.mock.calls.length, { timeout: 15_000 }).toBe(1)
    expect([open.mock.calls.length, onLost.mock.calls.length, worker.ready]).toEqual([2, 1, true])
  })

  it('while opening is tried again; at the first start it is refused', async () => {
    const before = /^The test process ended before it was ready\.$/
    await expect(start({ open: (call) => call('die', null) })).rejects.toThrow(before)
    await expect(
      start({ module: new URL('./worker-process/nothing.js', import.meta.url) }),
    ).rejects.toThrow(before)
    await expect(start({ open: (call) => call('refuse', { tandem: false }) })).rejects.toThrow(
      'It cannot be done.',
    )
    await worker.close()
    let openings = 0
    worker = await start({
      open: (call) => ((openings += 1) === 2 ? call('die', null) : Promise.resolve()),
    })
    kill()
    await expect.poll(() => worker.status.restarts, { timeout: 15_000 }).toBe(2)
    await expect.poll(() => worker.ready, { timeout: 15_000 }).toBe(true)
    expect([openings, worker.status.restarts]).toEqual([3, 2])
    expect(reports.at(-1)).toMatch(/could not be started again/)
  })
})

describe('an end', () => {
  it('waits for what is under way, takes nothing more, and starts nothing', async () => {
    const pid = worker.status.pid as number
    const running = worker.call('later', { ms: 300, value: 9 })
    const closed = Promise.all([worker.close(), worker.close()])
    await expect(worker.call('echo', 1)).rejects.toMatchObject({
      code: 'model_unavailable',
      message: /has been closed/ as never,
    })
    expect(await running).toBe(9)
    await closed
    expect(isAlive(pid)).toBe(false)
    await new Promise((resolve) => setTimeout(resolve, 700))
    expect(worker.status).toMatchObject({ pid: null, restarts: 0 })
  })

  it('is not brought by the signals that the service gets', async () => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
      process.kill(worker.status.pid as number, signal)
    await new Promise((resolve) => setTimeout(resolve, 200))
    expect(await worker.call('echo', 1)).toBe(1)
    expect(reports).toEqual([])
  })

  it('comes with the death of the parent, also in the middle of what blocks', async () => {
    const program = fileURLToPath(new URL('./parent.ts', import.meta.url))
    const parent = spawn(process.execPath, [...process.execArgv, program, '1500'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [pid] = (await once(createInterface({ input: parent.stdout }), 'line')) as [string]
    expect(isAlive(Number(pid))).toBe(true)
    parent.kill('SIGKILL')
    await expect.poll(() => isAlive(Number(pid)), { timeout: 15_000 }).toBe(false)
  })
})

it('a worker has neither the secrets nor the input of its parent', async () => {
  vi.stubEnv('API_KEYS', 'a-secret-key')
  vi.stubEnv('TANDEM_DATA_DIR', '/somewhere')
  await worker.close()
  worker = await start({ environment: { ADDED: 'yes' } })
  vi.unstubAllEnvs()
  const { environment, stdin } = await worker.call('surroundings', null)
  expect(environment).toMatchObject({ ADDED: 'yes', TANDEM_DATA_DIR: '/somewhere' })
  expect(environment).not.toHaveProperty('API_KEYS')
  expect(stdin).toBe(true)
})
