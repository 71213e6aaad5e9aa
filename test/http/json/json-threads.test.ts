/** Large JSON is read on threads, with the same values, errors and limits as small JSON. */
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { JsonTextError, parsedJsonText } from '../../../src/http/json/json-text.js'
import { JsonThreads, type Json } from '../../../src/http/json/json-threads.js'
import { startTestService, type TestService } from '../../support/test-service.js'

vi.setConfig({ testTimeout: 60_000 })

const MEGABYTES = 20_000_000
/** More than is parsed inline, in strings that have no stand-in. */
const padding = Array.from({ length: 30 }, (_, at) => `"${String(at % 10).repeat(10_000)}"`).join()

describe('a thread', () => {
  const threads = new JsonThreads()
  afterAll(() => threads.close())
  const parse = (text: string | Buffer): Promise<Json> =>
    threads.parse(Buffer.concat([Buffer.from(text)]), 'The body', {})

  it('reads the value that JSON.parse reads', async () => {
    await fc.assert(
      fc.asyncProperty(fc.jsonValue({ maxDepth: 5 }), async (given) => {
        const text = `[${padding}, ${JSON.stringify(given)}]`
        fc.pre(!/"(__proto__|constructor)"/.test(text))
        expect((await parse(text)).value).toEqual(JSON.parse(text))
      }),
      { numRuns: 50 },
    )
  })

  it.each([
    ['that is cut off', `[${padding}`],
    ['with a string that does not end', `[${padding}, "a`],
    ['with a long string that does not end', `["${'a'.repeat(300_000)}`],
    ['with a control character in a long string', `["${'a'.repeat(300_000)}\u0001"]`],
    ['with an unknown escape in a long string', `["${'a'.repeat(300_000)}\\x"]`],
    ['with a second value', `[${padding}] 1`],
    ['with a name twice', `{"a": [${padding}], "a": 1}`],
    ['with a name twice, once escaped', `{"a": [${padding}], "\\u0061": 1}`],
    ['with __proto__', `{"a": [${padding}], "__proto__": 1}`],
    ['with a number that no double holds', `[${padding}, 9007199254740993]`],
    ['of many values', `[${'1,'.repeat(200_000)}1]`],
    ['of many lists', '['.repeat(400_000)],
    ['of white space', ' '.repeat(3_000_000)],
  ])('refuses a text %s as the event loop does', async (_kind, text) => {
    const inline = (() => {
      try {
        return parsedJsonText(text)
      } catch (error) {
        return error as Error
      }
    })()
    expect(inline).toBeInstanceOf(JsonTextError)
    await expect(parse(text)).rejects.toThrow(inline)
    await expect(parse(text)).rejects.toBeInstanceOf(JsonTextError)
  })

  it('names the first byte that is not UTF-8', async () => {
    const text = Buffer.from(`["${'ä'.repeat(200_000)}"]`)
    text[200_000] = 0xff
    await expect(parse(text)).rejects.toThrow('The body has the byte 0xFF at position 200000')
  })

  it('refuses more levels than a message between threads can have', async () => {
    const nested = (levels: number): string =>
      `[${padding},${'['.repeat(levels - 1)}${']'.repeat(levels)}`
    expect((await parse(nested(1000))).value).toHaveLength(31)
    await expect(parse(nested(1001))).rejects.toThrow('is nested more than 1000 levels deep')
  })

  it('counts what long strings have, and knows that equal ones are equal', async () => {
    const emoji = '😀'.repeat(100_000)
    const { value, longStrings } = await parse(JSON.stringify({ a: `${emoji}"`, b: [`${emoji}"`] }))
    const { a, b } = value as { a: string; b: string[] }
    expect(a.length).toBeLessThan(20_000)
    expect(b).toEqual([a])
    expect(a.slice(0, 1000)).toBe('😀'.repeat(500))
    expect(longStrings.charsIn(a)).toBe(100_001)
    expect(longStrings.charsIn(`x ${a} ${a}`)).toBe(200_005)
    expect(longStrings.bytesOf('a')).toBe(Buffer.byteLength(JSON.stringify(`${emoji}"`)))
    expect(longStrings.bytesOf('b')).toBe(Buffer.byteLength(JSON.stringify([`${emoji}"`])))
    await expect(parse(`{"${emoji}": 1, "${emoji}": 2}`)).rejects.toThrow('twice in one object')
  })

  it('builds a value of any shape from its pieces', async () => {
    const wide = Array.from({ length: 3000 }, (_, at) => ({ [`name ${at}`]: 'x'.repeat(300) }))
    const named = Object.fromEntries(wide.map((one, at) => [`${'n'.repeat(60)}${at}`, one]))
    const deep = Array.from({ length: 900 }).reduce<unknown>((inner) => [inner, {}], wide)
    for (const given of [
      wide,
      named,
      { wide, deep: [deep], named, list: [], none: null, zero: 0 },
      [[[wide], [named]], 'x'.repeat(60_000), [wide]],
    ])
      expect((await parse(JSON.stringify(given))).value).toEqual(given)
  })

  it('knows the bytes of large fields', async () => {
    const fields = { numbers: Array(9000).fill(1.5), text: 'é\n'.repeat(20_000), small: [1] }
    const { longStrings } = await parse(JSON.stringify(fields))
    const { numbers, text } = fields
    expect(longStrings.bytesOf('numbers')).toBe(JSON.stringify(numbers).length)
    expect(longStrings.bytesOf('text')).toBe(Buffer.byteLength(JSON.stringify(text)))
    expect(longStrings.bytesOf('small')).toBeUndefined()
  })

  it('reads on after texts that it refuses, of several clients at once', async () => {
    const texts = Array.from({ length: 12 }, (_, at) =>
      at % 3 === 0 ? `[${padding},${at}` : `[${padding},${at}]`,
    )
    const read = await Promise.allSettled(
      texts.map((text, at) =>
        threads.parse(Buffer.concat([Buffer.from(text)]), 'The body', { client: String(at % 2) }),
      ),
    )
    expect(read.map(({ status }) => status)).toEqual(
      texts.map((_, at) => (at % 3 === 0 ? 'rejected' : 'fulfilled')),
    )
  })

  it('keeps the event loop free for a small part of the time that parsing takes', async () => {
    const text = Buffer.from(`{"text": "${'😀'.repeat(MEGABYTES / 4)}"}`)
    const parsing = performance.now()
    parsedJsonText(text.toString())
    const inline = performance.now() - parsing
    await parse(`[${padding}]`)
    const body = Buffer.concat([text])
    const before = performance.eventLoopUtilization()
    await threads.parse(body, 'The body', {})
    expect(performance.eventLoopUtilization(before).active).toBeLessThan(inline / 4)
  })
})

describe('a service', () => {
  let tandem: TestService
  beforeAll(async () => {
    tandem = await startTestService()
  })
  afterAll(() => tandem.end())
  afterEach(() => sleep(0))

  const send = async (method: 'POST' | 'PUT', url: string, payload: string, type?: string) => {
    const headers = { 'content-type': type ?? 'application/json' }
    const reply = await tandem.app.inject({ method, url, payload, headers })
    return { status: reply.statusCode, body: reply.json<Record<string, unknown>>() }
  }
  // The models of the test read the words of an image.
  const image = Buffer.from(`dog${' '.repeat(300_000)}`).toString('base64')

  it('takes a large image from every JSON body that has one', async () => {
    const dataUri = `data:image/jpeg;base64,${image}`
    for (const text of [
      image,
      dataUri,
      image.replace(/.{76}/g, '$&\\r\\n'),
      `\\u0064${dataUri.slice(1)}`,
    ]) {
      const put = await send('PUT', '/items/large', `{"image": "${text}", "payload": {"a": 1}}`)
      expect([200, 201], JSON.stringify(put.body)).toContain(put.status)
      const found = await send('POST', '/search', `{"image": "${text}", "k": 1}`)
      expect(found.body).toMatchObject({ hits: [{ id: 'large', payload: { a: 1 } }] })
      const embedded = await send(
        'POST',
        '/embed',
        `{"inputs": [{"image": "${text}"}, {"text": "a"}]}`,
      )
      expect(embedded.body['embeddings']).toHaveLength(2)
    }
    const lines = `{"id": "line", "image": "${image}"}\n{"id": "line 2", "image": "${image}"}\n`
    expect((await send('POST', '/items', lines, 'application/x-ndjson')).body).toMatchObject({
      created: 2,
      failed: 0,
    })
  })

  const long = 'x'.repeat(400_000)
  it.each([
    [
      'POST',
      '/search',
      `{"text": "${long}"}`,
      'text has 400000 characters; expected at most 10000',
    ],
    ['POST', '/embed', `{"inputs": [{"text": "${long}"}]}`, 'inputs[0].text has 400000 characters'],
    [
      'POST',
      '/search',
      `{"image": "${long}!"}`,
      'image is not valid base64: character 400000 is "!"',
    ],
    ['POST', '/search', `{"image": "=${long}"}`, 'image is not valid base64: character 0 is "="'],
    ['POST', '/search', `{"image": "data:${long},"}`, 'image is a data-URI that is not base64'],
    [
      'POST',
      '/search',
      `{"text": "a", "${long}": 1}`,
      `"${'x'.repeat(59)}… (more than 10000 characters) is not a known field`,
    ],
    [
      'PUT',
      '/items/a',
      `{"image": "ZG9n", "payload": {"a": "${long}"}}`,
      'The payload has 400008 bytes as JSON',
    ],
    [
      'PUT',
      '/items/a',
      `{"image": "ZG9n", "payload": {"${long}": ["${long}"]}}`,
      'The payload has 800009 bytes as JSON',
    ],
    [
      'POST',
      '/search',
      `{"text": "a", "filter": {"must": [{"key": "a", "match": 1}], "x": "${long}"}}`,
      '',
    ],
  ] as const)('%s %s refuses %.60s', async (method, url, body, sentence) => {
    const { status, body: problem } = await send(method, url, body)
    expect(status).toBe(422)
    expect(problem['detail']).toContain(sentence)
  })
})
