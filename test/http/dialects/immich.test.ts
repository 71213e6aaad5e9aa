import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestService, type TestService } from '../../support/test-service.js'
import { embeddingOf } from '../../support/word-models.js'

let tandem: TestService

beforeAll(async () => {
  tandem = await startTestService()
})
afterAll(() => tandem.end())

/** A form as Immich sends it; a value in bytes is a file. */
function predict(fields: Record<string, string | Buffer>) {
  const parts = Object.entries(fields).map(([name, value]) => {
    const file = typeof value === 'string' ? '' : '; filename="blob"'
    const head = `--b\r\ncontent-disposition: form-data; name="${name}"${file}\r\n\r\n`
    return Buffer.concat([Buffer.from(head), Buffer.from(value), Buffer.from('\r\n')])
  })
  return tandem.app.inject({
    method: 'POST',
    url: '/predict',
    headers: { 'content-type': 'multipart/form-data; boundary=b' },
    payload: Buffer.concat([...parts, Buffer.from('--b--\r\n')]),
  })
}
const clip = (task: object): string => JSON.stringify({ clip: task })
const visual = clip({ visual: { modelName: 'words', options: {} } })
const textual = clip({ textual: { modelName: 'words', options: { language: 'de' } } })

describe('Immich', () => {
  it('finds the service alive', async () => {
    const ping = await tandem.app.inject('/ping')
    expect([ping.statusCode, ping.body]).toEqual([200, 'pong'])
    expect(ping.headers['content-type']).toContain('text/plain')
    const root = await tandem.app.inject({ url: '/', headers: { accept: 'application/json' } })
    expect(root.json()).toEqual({ message: 'Immich ML' })
  })

  it('leaves the search page to browsers', async () => {
    for (const headers of [
      {},
      { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' },
      { accept: '*/*' },
    ])
      expect((await tandem.app.inject({ url: '/', headers })).headers['content-type']).toContain(
        'html',
      )
    const encoder = await startTestService({ role: 'encode' })
    expect((await encoder.app.inject('/')).json()).toEqual({ message: 'Immich ML' })
    await encoder.end()
  })

  it('gets the vector of a text as a JSON string', async () => {
    const reply = await predict({ entries: textual, text: 'a dog' })
    const { clip: vector, ...rest } = reply.json<{ clip: string }>()
    expect(Float32Array.from(JSON.parse(vector) as number[])).toEqual(embeddingOf('a dog'))
    expect(rest).toEqual({})
  })

  it('gets the vector of an image with its height and width', async () => {
    // The head of a GIF of 5 by 7 pixels; the models of this test read its words.
    const image = Buffer.from('GIF89a\x05\x00\x07\x00 dog', 'latin1')
    const reply = await predict({ entries: visual, image, unknown: 'ignored' })
    const { clip: vector, ...size } = reply.json<{ clip: string }>()
    expect(Float32Array.from(JSON.parse(vector) as number[])).toEqual(embeddingOf(image.toString()))
    expect(size).toEqual({ imageHeight: 7, imageWidth: 5 })
  })

  it('answers the forms of its server, which fetch writes', async () => {
    const url = await tandem.app.listen({ host: '127.0.0.1', port: 0 })
    const send = async (entries: string, name: string, value: string | Blob) => {
      const form = new FormData()
      form.append('entries', entries)
      if (typeof value === 'string') form.append(name, value)
      else form.append(name, value)
      const reply = await fetch(new URL('/predict', url), { method: 'POST', body: form })
      return [reply.status, await reply.json()]
    }
    const gif = Buffer.from('GIF89a\x05\x00\x07\x00 dog', 'latin1')
    expect(await send(textual, 'text', 'ein Hund')).toEqual([
      200,
      { clip: expect.stringMatching(/^\[.*]$/) as string },
    ])
    expect(await send(visual, 'image', new Blob([gif]))).toEqual([
      200,
      { clip: expect.stringMatching(/^\[.*]$/) as string, imageHeight: 7, imageWidth: 5 },
    ])
  })

  it("answers the bytes of a form of Python's requests", async () => {
    const gif = 'GIF89a\x05\x00\x07\x00 dog'
    const boundary = '1f7c0f3a5a0b4f0e9c1d2e3f4a5b6c7d'
    const part = (head: string, value: string): string =>
      `--${boundary}\r\nContent-Disposition: form-data; ${head}\r\n\r\n${value}\r\n`
    const body =
      part('name="entries"', visual) +
      part('name="image"; filename="image"', gif) +
      `--${boundary}--\r\n`
    const reply = await tandem.app.inject({
      method: 'POST',
      url: '/predict',
      headers: {
        'user-agent': 'python-requests/2.32.5',
        accept: '*/*',
        'content-type': `multipart/form-data; boundary=${boundary}`,
      },
      payload: Buffer.from(body, 'latin1'),
    })
    expect(reply.json()).toEqual({
      ...{ clip: expect.any(String) as string, imageHeight: 7, imageWidth: 5 },
    })
  })

  // requests and httpx write a form without a file so.
  const urlencoded = (payload: string) =>
    tandem.app.inject({
      method: 'POST',
      url: '/predict',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      payload,
    })

  it("answers a text in an urlencoded form, as Python's clients send it", async () => {
    const form = new URLSearchParams({ entries: textual, text: 'a dog & a ball: 50 % süß' })
    const reply = await urlencoded(form.toString())
    const { clip: vector } = reply.json<{ clip: string }>()
    const expected = embeddingOf('a dog & a ball: 50 % süß')
    expect(Float32Array.from(JSON.parse(vector) as number[])).toEqual(expected)
  })

  it.each<[string, number, string]>([
    ['', 422, 'entries is missing'],
    [`entries=${encodeURIComponent(textual)}&text=%ff`, 400, 'not percent-encoded UTF-8'],
    [`entries=${encodeURIComponent(textual)}&text=%`, 400, 'not percent-encoded UTF-8'],
    [`entries=${encodeURIComponent(visual)}&image=dog`, 422, 'The form has 0 files'],
    [`text=${'a'.repeat(262_144)}`, 413, 'send files in multipart/form-data'],
  ])('refuses an urlencoded form with a sentence: %.60s', async (form, status, sentence) => {
    const reply = await urlencoded(form)
    expect(reply.statusCode).toBe(status)
    expect(reply.json<{ detail: string }>().detail).toContain(sentence)
  })

  it('alone takes urlencoded forms', async () => {
    const headers = { 'content-type': 'application/x-www-form-urlencoded' }
    for (const url of ['/v1/embeddings', '/v1/rerank', '/knn-service', '/vectorize'])
      expect(
        (await tandem.app.inject({ method: 'POST', url, headers, payload: 'a=b' })).statusCode,
      ).toBe(415)
  })

  it.each([
    ['application/json', '{}'],
    ['application/json', '[]'],
    ['text/plain', '{}'],
    ['application/x-ndjson', '{}'],
    ['application/octet-stream', 'a'],
    [undefined, '{}'],
  ])('takes nothing but forms: a body of type %s, %s', async (type, payload) => {
    const headers = type === undefined ? {} : { 'content-type': type }
    const request = { method: 'POST', url: '/predict', headers, payload } as const
    expect((await tandem.app.inject(request)).statusCode).toBe(415)
  })

  const image = Buffer.from('dog')
  it.each<[Record<string, string | Buffer>, string]>([
    [{ image }, 'entries is missing'],
    [{ entries: '{', image }, 'entries is not valid JSON'],
    [{ entries: '[]', image }, 'expected an object with clip'],
    [{ entries: '{"facial-recognition": {}}', image }, 'entries has the task "facial-recognition"'],
    [{ entries: '{"ocr": {}}', image }, 'no model for faces or for text in images'],
    [{ entries: clip({}), image }, 'expected {"visual": {"modelName"}} for an image'],
    [{ entries: clip({ visual: {} }), image }, 'modelName is missing'],
    [
      { entries: clip({ visual: { modelName: 'ViT-B-32__openai' } }), image },
      'modelName is "ViT-B-32__openai"; expected "words"',
    ],
    [{ entries: visual }, 'The form has 0 files'],
    [{ entries: textual }, 'text is ""'],
    [{ entries: textual, text: ' ' }, 'text is " "'],
    [{ entries: visual, image: Buffer.from('bad') }, 'The image is cut off.'],
  ])('is refused with a sentence: %j', async (fields, sentence) => {
    const reply = await predict(fields)
    expect(reply.statusCode).toBe(422)
    expect(reply.json<{ detail: string }>().detail).toContain(sentence)
  })
})
