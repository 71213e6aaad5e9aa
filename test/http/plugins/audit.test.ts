import { describe, expect, it, vi } from 'vitest'
import { logOfService } from '../../support/service-log.js'

vi.setConfig({ testTimeout: 60_000 })

type Line = Record<string, unknown>

/** Changes, and attempts at changes. */
const calls = `
    await send('PUT', '/items/a', { image, payload: { diary: 'private' } })
    await send('PUT', '/items/a', { image })
    await send('PUT', '/items/b', { image: Buffer.from('bad').toString('base64') })
    await send('PUT', '/items/c', { image }, { 'x-api-key': 'wrong-secret' })
    await send('DELETE', '/items/a')
    await send('DELETE', '/items/' + encodeURIComponent('x"\\n{"'))
    await send('GET', '/items/a')
    const lines = [{ id: 'd', image, payload: { diary: 'private' } }, { id: 'e', image: '!' }].map((one) => JSON.stringify(one))
    await send('POST', '/items', lines.join('\\n') + '\\nnonsense', { 'x-api-key': 'hunter2-secret', 'content-type': 'application/x-ndjson' })
    await send('POST', '/backups?name=nightly')
    while ((await send('GET', '/backups')).json().running !== null) await new Promise((done) => setTimeout(done, 10))
    await send('POST', '/backups/gone/restore')
    await send('POST', '/backups?name=b', undefined, {})
  `

describe('the audit', () => {
  it('has a line for each requested change, also at LOG_LEVEL=warn', async () => {
    const log = await logOfService('warn', calls)
    const lines = log
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Line)
      .filter((line) => line['audit'] === true)
    const found = lines.map(({ action, id, outcome, key }) => [action, id, outcome, key])
    // Items of one stream are processed at the same time and finish in any order.
    const byOutcome = (a: unknown[], b: unknown[]): number =>
      String(a[2]).localeCompare(String(b[2]))
    expect([...found.slice(0, 6), ...found.slice(6, 9).sort(byOutcome), ...found.slice(9)]).toEqual(
      [
        ['add', 'a', 'created', 'API_KEYS:1'],
        ['add', 'a', 'replaced', 'API_KEYS:1'],
        ['add', 'b', 'image_unreadable', 'API_KEYS:1'],
        ['add', 'c', 'unauthorized', null],
        ['remove', 'a', 'removed', 'API_KEYS:1'],
        ['remove', 'x"\n{"', 'invalid_request', 'API_KEYS:1'],
        ['add', 'd', 'created', 'API_KEYS:1'],
        ['add', 'e', 'invalid_request', 'API_KEYS:1'],
        ['add', null, 'payload_invalid', 'API_KEYS:1'],
        ['backup', 'nightly', 'begun', 'API_KEYS:1'],
        ['backup', 'nightly', 'done', 'API_KEYS:1'],
        ['restore', 'gone', 'backup_not_found', 'API_KEYS:1'],
        ['backup', 'b', 'unauthorized', null],
      ],
    )
    for (const { reqId, address } of lines)
      expect([reqId, address]).toEqual([expect.stringMatching(/^req-/), '127.0.0.1'])
    expect(log).not.toMatch(/secret|diary|private/)
  })

  it('writes nothing at LOG_LEVEL=silent', async () => {
    expect(await logOfService('silent', calls)).toBe('')
  })
})
