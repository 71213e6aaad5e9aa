import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import { RequestLog } from '../../../src/http/plugins/request-log.js'

function logged() {
  const lines: string[] = []
  let made = 0
  const parent = pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) })
  const log = new RequestLog(() => {
    made += 1
    return parent.child({ reqId: 'req-7' })
  })
  return {
    log,
    lines: () => lines.map((line) => JSON.parse(line) as Record<string, unknown>),
    made: () => made,
  }
}

describe('the log of a request', () => {
  it('is not made before a line is written, and then once', () => {
    const { log, lines, made } = logged()
    expect(made()).toBe(0)
    log.info({ code: 'x' }, 'first')
    log.error('second')
    expect(made()).toBe(1)
    expect(lines()).toMatchObject([
      { level: 30, reqId: 'req-7', code: 'x', msg: 'first' },
      { level: 50, reqId: 'req-7', msg: 'second' },
    ])
  })

  it('writes at every level, and has children that carry what it does', () => {
    const { log, lines } = logged()
    for (const level of ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const)
      log[level]('a line')
    expect(lines().map(({ level }) => level)).toEqual([10, 20, 30, 40, 50, 60])
    log.silent('nothing')
    log.child({ part: 2 }).info('of a part')
    expect(lines().at(-1)).toMatchObject({ reqId: 'req-7', part: 2 })
    log.level = 'error'
    log.warn('nothing')
    expect([log.level, lines().length]).toEqual(['error', 7])
  })
})
