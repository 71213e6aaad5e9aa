import { PassThrough } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { startProgress, type Terminal } from '../../../src/cli/terminal/terminal.js'

let written: string
function terminal(isTTY: boolean): Terminal {
  written = ''
  const err = new PassThrough().on('data', (chunk: Buffer) => (written += chunk.toString()))
  return { out: new PassThrough(), err: Object.assign(err, { isTTY, columns: 100 }) }
}

describe('startProgress', () => {
  beforeEach(() => vi.useFakeTimers())
  afterEach(() => vi.useRealTimers())

  it('prints a line every five seconds and at the end without a terminal', () => {
    const progress = startProgress(terminal(false), 20, 'images')
    for (let at = 0; at < 12; at += 1) {
      vi.advanceTimersByTime(1000)
      progress.advance()
    }
    progress.remark('not added: a.jpg: it is broken')
    progress.stop()
    expect(written.split('\n')).toEqual([
      '5/20 images, 1.0 images/s, about 15 s left',
      '10/20 images, 1.0 images/s, about 10 s left',
      'not added: a.jpg: it is broken',
      '12/20 images, 1.0 images/s, about 8 s left',
      '',
    ])
  })

  it('prints nothing without progress', () => {
    startProgress(terminal(false), 0, 'images').stop()
    expect(written).toBe('')
  })

  it('draws a bar with rate and time left on a terminal', () => {
    const progress = startProgress(terminal(true), 4, 'images')
    vi.advanceTimersByTime(1000)
    progress.advance()
    progress.advance()
    vi.advanceTimersByTime(1000)
    progress.remark('not added: a.jpg: it is broken')
    progress.stop()
    expect(written).toMatch(/█+░+.* 2\/4 images · [\d.]+ images\/s/)
    expect(written).toContain('not added: a.jpg: it is broken\n')
  })
})
