/** A service on a full or read-only disk: a short run of `npm run full-disk`. */
import { describe, expect, it } from 'vitest'
import { testDiskFailure } from '../full-disk/disk-failure.js'
import { breakableDisk, smallDisk } from '../support/small-disk.js'

describe('a disk that accepts no writes', { timeout: 240_000 }, () => {
  it('when full, writes are refused with 507 and accepted once there is space', async (context) => {
    const disk = await smallDisk(24)
    if (disk === null) return context.skip('this process may not mount a disk')
    try {
      const failure = {
        fail: () => disk.fill(),
        repair: () => disk.freeSpace(),
        restart: false,
        rounds: 3,
      }
      const { contradictions, writes, recoveredMs } = await testDiskFailure(disk, failure)
      expect(contradictions).toEqual([])
      expect(writes.get(507)).toBeGreaterThan(0)
      expect(
        [...writes.keys()].filter((status) => ![200, 201, 204, 404, 507].includes(status)),
      ).toEqual([])
      expect(recoveredMs).toBeLessThan(10_000)
    } finally {
      await disk.end()
    }
  })

  it('when read-only, writes are refused with 503 and nothing is lost', async (context) => {
    const disk = await breakableDisk(32)
    if (disk === null) return context.skip('this process may not mount a disk, or is not root')
    try {
      const failure = {
        fail: () => disk.break(),
        repair: () => disk.repair(),
        restart: true,
        rounds: 3,
      }
      const { contradictions, writes } = await testDiskFailure(disk, failure)
      expect(contradictions).toEqual([])
      expect([...writes.keys()]).toEqual([503])
    } finally {
      await disk.end()
    }
  })
})
