/** Fields of forms are read alike, with or without the type application/json. */
import { request, type IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { FormPieces } from '../../../src/http/wire/form-pieces.js'
import { startTestService, type TestService } from '../../support/test-service.js'
import { CallsByTurn } from '../../support/turns.js'

let tandem: TestService
beforeAll(async () => {
  tandem = await startTestService({ maxBatchItems: 4 })
})
afterAll(() => tandem.end())

const send = async (method: 'PUT' | 'POST', url: string, form: FormData) => {
  const made = new Request('http://service/', { method: 'POST', body: form })
  const payload = Buffer.from(await made.arrayBuffer())
  const headers = { 'content-type': made.headers.get('content-type') ?? '' }
  return (await tandem.app.inject({ method, url, payload, headers })).json<
    Record<string, unknown>
  >()
}
/** A form whose field has a type, which FormData cannot give a field without a file name. */
const sendTyped = async (type: string, value: string) => {
  const part = (head: string, body: string): string =>
    `--b\r\nContent-Disposition: form-data; ${head}\r\n\r\n${body}\r\n`
  const payload = [
    part('name="image"; filename="a.jpg"', 'dog'),
    part(`name="payload"\r\nContent-Type: ${type}`, value),
    '--b--',
  ].join('')
  const headers = { 'content-type': 'multipart/form-data; boundary=b' }
  const reply = await tandem.app.inject({ method: 'PUT', url: '/items/a', payload, headers })
  return reply.json<Record<string, unknown>>()
}

describe('a field of a form', () => {
  it.each([
    ['{"a": 1, "a": 2}', 'payload has the name "a" twice in one object'],
    ['{"a": {"__proto__": 1}}', 'payload has a key such as "__proto__"'],
    ['{"a": 9007199254740993}', 'payload has the number 9007199254740993'],
    ['{"a": ', 'payload is not valid JSON'],
    [`{"a": [${'1,'.repeat(60_000)}1]}`, 'payload has more than 50000 values'],
    [`{"a": "${'x'.repeat(70_000)}"}`, 'The payload has 70008 bytes as JSON'],
    [`{"a": "${'x'.repeat(270_000)}"}`, 'The field payload is larger than 262144 bytes'],
  ])('is refused for %.40s, whichever its type is', async (value, sentence) => {
    for (const type of ['text/plain', 'application/json', 'application/json; charset=utf-8']) {
      const { detail } = await sendTyped(type, value)
      expect(detail, type).toContain(sentence)
    }
  })

  it('of JSON is a payload like one without a type', async () => {
    for (const type of ['text/plain', 'application/json']) {
      await sendTyped(type, `{"type": "${type}"}`)
      const item = (await tandem.app.inject('/items/a')).json<{ payload: unknown }>()
      expect(item.payload).toEqual({ type })
    }
  })

  it('does not count as a file', async () => {
    const form = new FormData()
    for (let at = 0; at < 4; at += 1) form.append('image', new Blob([`dog ${at}`]), `${at}.jpg`)
    expect(await send('POST', '/items', form)).toMatchObject({ created: 4 })
    form.append('image', new Blob(['cat']), '5.jpg')
    expect(await send('POST', '/items', form)).toMatchObject({
      code: 'batch_too_large',
      detail: 'The form has too many parts; expected at most 4 files.',
    })
  })
})

describe('a form that is larger than a body may be', () => {
  it.each([
    ['by its Content-Length: a file', 'name="image"; filename="a.jpg"', '3000000000'],
    ['by its Content-Length: a field', 'name="payload"', '3000000000'],
    ['while it is read, if its length is not given: a file', 'name="image"; filename="a"', null],
    ['while it is read, if its length is not given: a field', 'name="payload"', null],
  ])('is refused %s', async (_, head, length) => {
    const service = await startTestService({ maxBodyBytes: 100_000, maxBatchItems: 4 })
    const url = await service.app.listen({ host: '127.0.0.1', port: 0 })
    const headers = {
      'content-type': 'multipart/form-data; boundary=b',
      ...(length !== null && { 'content-length': length }),
    }
    const sent = request(`${url}/items/a`, { method: 'PUT', headers })
    const reply = new Promise<IncomingMessage>((resolve, reject) => {
      sent.once('response', resolve)
      sent.once('error', reject)
    })
    sent.write(`--b\r\nContent-Disposition: form-data; ${head}\r\n\r\n`)
    sent.write('x'.repeat(800_000))
    const { statusCode } = await reply
    expect(statusCode).toBe(413)
    sent.destroy()
    await service.end()
  })
})

describe('a form of many chunks', () => {
  it('gives other requests a turn after each chunk', async () => {
    const calls = new CallsByTurn()
    const push = vi.spyOn(FormPieces.prototype, 'push').mockImplementation(function (
      this: FormPieces,
      piece,
    ) {
      calls.count()
      return Readable.prototype.push.call(this, piece)
    })
    const head = '--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\ndog'
    const { statusCode } = await tandem.app.inject({
      method: 'POST',
      url: '/items',
      payload: Readable.from([head, ...Array<string>(300).fill(' '.repeat(1000)), '\r\n--b--']),
      headers: { 'content-type': 'multipart/form-data; boundary=b' },
    })
    push.mockRestore()
    expect(statusCode).toBe(200)
    expect(calls.all).toBeGreaterThan(300)
    // The last piece and the end.
    expect(calls.most).toBeLessThanOrEqual(2)
  })

  it('is answered where it has 200,000 parts', async () => {
    const service = await startTestService({ maxBatchItems: 4 })
    const url = await service.app.listen({ host: '127.0.0.1', port: 0 })
    const part = '--b\r\nContent-Disposition: form-data; name="id"\r\n\r\n\r\n'
    const response = await fetch(`${url}/items`, {
      method: 'POST',
      body: `${part.repeat(200_000)}--b--`,
      headers: { 'content-type': 'multipart/form-data; boundary=b' },
    })
    expect(response.status).toBe(413)
    await service.end()
  })
})
