import { expect, it } from 'vitest'
import { mapInSlices } from '../../src/async/slices.js'
import { turnsDuring } from '../support/turns.js'

const values = Array.from({ length: 100 }, (_, at) => at)

function slow(value: number): number {
  const end = performance.now() + 1
  while (performance.now() < end);
  return value * 2
}

it('gives the event loop turns between the values of a list, and keeps their order', async () => {
  const { result, turns } = await turnsDuring(() => mapInSlices(values, slow))
  expect(result).toEqual(values.map((value) => value * 2))
  expect(turns).toBeGreaterThan(5)
})

it('gives the event loop a turn after one slice of all lists together', async () => {
  const { turns } = await turnsDuring(() =>
    Promise.all(Array.from({ length: 8 }, () => mapInSlices(values, slow))),
  )
  // 800 ms in slices of 5 ms.
  expect(turns).toBeGreaterThan(8 * 5)
})

it('stops between values when the call is aborted', async () => {
  const ended = new Error('the client has gone')
  await expect(mapInSlices(values, slow, AbortSignal.abort(ended))).rejects.toBe(ended)
})
