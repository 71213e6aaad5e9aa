import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { getPriority } from 'node:os'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Refusal } from '../../src/worker/child.js'
import { inheritedOptions } from '../../src/worker/environment.js'
import type { Call } from '../../src/worker/messages.js'
import { WorkerProcess, type WorkerOptions } from '../../src/worker/worker-process.js'
import type { Commands } from './worker.js'

vi.setConfig({ testTimeout: 60_000 })

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

describe('the priority of a worker', () => {
  it('is lower than that of the service unless its options say otherwise', async () => {
    expect(getPriority(worker.status.pid as number)).toBe(Math.min(19, getPriority() + 5))
    const normal = await start({ lowPriority: false })
    expect(getPriority(normal.status.pid as number)).toBe(getPriority())
    await normal.close()
  })
})

describe('calls of a worker', () => {
  it('carry typed arrays and are answered in the order in which they end', async () => {
    const input = {
      floats: new Float32Array([1, -2.5]),
      bytes: new Uint8Array([1, 2, 255]).subarray(1),
      big: new BigInt64Array([-1n]),
    }
    expect(await worker.call('echo', input)).toEqual(input)
    const done: number[] = []
    const calls = [300, 1, 150].map((ms) =>
      worker.call('later', { ms, value: ms }).then((value) => done.push(value)),
    )
    await Promise.all(calls)
    expect(done).toEqual([1, 150, 300])
  })

  it('carry 30 MB each way', async () => {
    const bytes = new Uint8Array(30_000_000).fill(7)
    const answer = (await worker.call('echo', bytes)) as Uint8Array
    expect(Buffer.compare(answer, bytes)).toBe(0)
  })

  it('fail with the error that their handler threw, and do not affect the others', async () => {
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

describe('the death of a worker', () => {
  it('fails pending and new calls until the next process is ready', async () => {
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

  it('is followed by a pause that doubles until a call is answered', async () => {
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

  it('is caused by a call that is not answered within its limit', async () => {
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

  it('is caused by a stop for five seconds, but not by computing for longer', async () => {
    expect(await worker.call('block', { ms: 12_000 })).toBe(null)
    const { pid } = worker.status
    process.kill(pid as number, 'SIGSTOP')
    const began = performance.now()
    await expect(worker.call('echo', 1)).rejects.toMatchObject(lost)
    expect(performance.now() - began).toBeLessThan(9000)
    expect(reports).toEqual([
      `The test process (${pid}) ended with SIGKILL, since it hung; it is started again in 0.5 s.`,
    ])
    await expect.poll(() => worker.ready, { timeout: 15_000 }).toBe(true)
    expect(await worker.call('echo', 1)).toBe(1)
  })

  it('calls onLost, and onReturn once the next process has been opened', async () => {
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

  it('while it opens is an error at the first start and is retried later', async () => {
    const before = /^The test process ended before it was ready\.$/
    await expect(start({ open: (call) => call('die', null) })).rejects.toThrow(before)
    await expect(start({ module: new URL('./missing.js', import.meta.url) })).rejects.toThrow(
      before,
    )
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

describe('the end of a worker', () => {
  it('comes after the pending calls; new calls are refused and no process is started', async () => {
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

  it('comes within ten seconds where the process stands still', async () => {
    process.kill(worker.status.pid as number, 'SIGSTOP')
    const began = performance.now()
    await worker.close()
    expect(performance.now() - began).toBeLessThan(15_000)
  })

  it('is not caused by the signals that a terminal sends to all processes', async () => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
      process.kill(worker.status.pid as number, signal)
    await new Promise((resolve) => setTimeout(resolve, 200))
    expect(await worker.call('echo', 1)).toBe(1)
    expect(reports).toEqual([])
  })

  it('follows the death of the service, also during a call that blocks', async () => {
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

it('a worker inherits only listed variables and no standard input', async () => {
  vi.stubEnv('API_KEYS', 'a-secret-key')
  vi.stubEnv('NODE_AUTH_TOKEN', 'a-secret-token')
  vi.stubEnv('TANDEM_DATA_DIR', '/somewhere')
  vi.stubEnv('OMP_NUM_THREADS', '3')
  await worker.close()
  worker = await start({ environment: { ADDED: 'yes' } })
  vi.unstubAllEnvs()
  const { environment, stdin } = await worker.call('surroundings', null)
  expect(environment).toMatchObject({ ADDED: 'yes', OMP_NUM_THREADS: '3', PATH: process.env.PATH })
  for (const name of ['API_KEYS', 'NODE_AUTH_TOKEN', 'TANDEM_DATA_DIR'])
    expect(environment).not.toHaveProperty(name)
  expect(stdin).toBe(true)
})

it('a worker inherits the options of Node without environment files', () => {
  const options = ['--env-file', 'a', '--inspect', '--env-file=b', '--env-file-if-exists', 'c']
  expect(inheritedOptions([...options, '--import', 'd'])).toEqual(['--inspect', '--import', 'd'])
})
