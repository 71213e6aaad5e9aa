import { getEventListeners } from 'node:events'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { setTimeout as pause } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { within, withSignals } from '../../src/async/signals.js'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** Signals that Node has derived from a signal. */
function dependants(signal: AbortSignal): number {
  const key = Object.getOwnPropertySymbols(signal).find(
    ({ description }) => description === 'kDependantSignals',
  )
  const set = key && (signal as unknown as Record<symbol, Set<unknown> | undefined>)[key]
  return set?.size ?? 0
}

/** Rejects with the reason of a signal. */
function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error))
  })
}

describe('withSignals', () => {
  it('aborts the work when any of the signals aborts, with its reason', async () => {
    const [first, second] = [new AbortController(), new AbortController()]
    const work = withSignals([first.signal, undefined, second.signal], aborted)
    second.abort(new Error('second'))
    await expect(work).rejects.toThrow('second')
  })

  it('does not start the work after an abort', async () => {
    let isStarted = false
    const work = withSignals([AbortSignal.abort(new Error('gone'))], () => {
      isStarted = true
      return Promise.resolve()
    })
    await expect(work).rejects.toThrow('gone')
    expect(isStarted).toBe(false)
  })

  it('aborts the rest of the work when a part of it fails', async () => {
    let rest: AbortSignal | undefined
    const work = withSignals([], (signal) => {
      rest = signal
      return Promise.all([aborted(signal), Promise.reject(new Error('part'))])
    })
    await expect(work).rejects.toThrow('part')
    expect(rest?.reason).toEqual(new Error('part'))
  })

  it('leaves no listener on a signal that lives longer than the work', async () => {
    const { signal } = new AbortController()
    for (let i = 0; i < 100; i += 1) {
      await withSignals([signal], () => Promise.resolve(i))
      await within(
        1000,
        signal,
        () => new Error('late'),
        () => Promise.resolve(i),
      )
      await withSignals([signal], () => Promise.reject(new Error('failed'))).catch(() => undefined)
    }
    expect(getEventListeners(signal, 'abort')).toHaveLength(0)
  })

  it('keeps no memory on a signal that lives as long as the service', async () => {
    const { signal } = new AbortController()
    // Where a source refers to its derived signals weakly, listeners do not show them.
    const derived = new FinalizationRegistry<number>(() => (collected += 1))
    let collected = 0
    const count = 200
    for (let i = 0; i < count; i += 1) {
      await withSignals([signal], (joined) => {
        derived.register(joined, i)
        joined.addEventListener('abort', () => undefined)
        return Promise.resolve()
      })
    }
    const isCollected = (): boolean => collected >= count - 1
    for (let tries = 0; tries < 50 && !isCollected(); tries += 1) {
      collectGarbage()
      await pause(10)
    }
    expect(isCollected()).toBe(true)
    expect(dependants(signal)).toBe(0)
  })
})

describe('within', () => {
  it('throws the error of the time limit though the work ignores its signal', async () => {
    const work = within(
      10,
      undefined,
      () => new Error('late'),
      () => pause(60_000),
    )
    await expect(work).rejects.toThrow('late')
  })

  it('throws the reason of the caller, not the error that the work makes of the abort', async () => {
    const controller = new AbortController()
    const work = within(
      60_000,
      controller.signal,
      () => new Error('late'),
      (signal) => aborted(signal).catch(() => Promise.reject(new Error('cut off'))),
    )
    controller.abort(new Error('gone'))
    await expect(work).rejects.toThrow('gone')
  })
})

it('work with a time limit that throws at once leaves no unhandled rejection', async () => {
  const work = (): Promise<never> => {
    throw new Error('thrown at once')
  }
  await expect(within(1000, undefined, () => new Error('late'), work)).rejects.toThrow(
    'thrown at once',
  )
  // Vitest fails on an unhandled rejection, which would come by now.
  await new Promise((resolve) => setImmediate(resolve))
})
