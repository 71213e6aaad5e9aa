/**
 * The models of another service: as good as its own, and clear about everything that a network can
 * do.
 */
import { once } from 'node:events'
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import sharp from 'sharp'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { buildApp, type Tandem } from '../../../src/http/app.js'
import { EncodeOnlyCollection } from '../../../src/collection/encode-only.js'
import { packageFolder, readConfig, type Config } from '../../../src/config.js'
import { askTexts } from '../../../src/model/remote/protocol.js'
import { TandemError } from '../../../src/errors.js'
import { openModels } from '../../../src/model/open.js'
import type { Call, Models } from '../../../src/model/models.js'
import { openRemoteModels } from '../../../src/model/remote/remote-models.js'
import { startTestService, type TestService } from '../../support/test-service.js'

vi.setConfig({ testTimeout: 60_000 })

const KEY = 'key-of-a-search'
const opened: { close(): unknown }[] = []
afterEach(async () => {
  for (const one of opened.splice(0).reverse()) await one.close()
})

const portOf = (server: { address(): unknown }): number => (server.address() as AddressInfo).port

/** An encoder over words, listening. */
async function wordEncoder(
  settings: Partial<Config> = {},
): Promise<{ encoder: TestService; url: string }> {
  const encoder = await startTestService({ role: 'encode', apiKeys: [KEY], ...settings })
  opened.push({ close: () => encoder.end() })
  const url = await encoder.app.listen({ host: '127.0.0.1', port: 0 })
  return { encoder, url }
}

async function remote(
  url: string,
  settings: { timeoutMs?: number; apiKey?: string; waitMs?: number } = {},
): Promise<Models> {
  const models = await openRemoteModels({
    url,
    apiKey: KEY,
    timeoutMs: 5000,
    waitMs: 0,
    ...settings,
  })
  opened.push(models)
  return models
}

/** Something else than an encoder. */
async function listening(listener: RequestListener): Promise<{ server: Server; url: string }> {
  const server = createHttpServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  opened.push({ close: () => (server.closeAllConnections(), server.close()) })
  return { server, url: `http://127.0.0.1:${portOf(server)}` }
}

/** A way to the encoder that can be broken. */
async function wire(
  url: string,
): Promise<{ url: string; sockets: Set<Socket>; state: { refusing: boolean; silent: boolean } }> {
  const sockets = new Set<Socket>()
  const state = { refusing: false, silent: false }
  const server = createServer((socket) => {
    sockets.add(socket)
    if (state.refusing) return void socket.destroy()
    const other = connect(Number(new URL(url).port), '127.0.0.1')
    for (const [from, to] of [
      [socket, other],
      [other, socket],
    ] as const) {
      from
        .on('data', (bytes) => !state.silent && to.write(bytes))
        .on('close', () => to.destroy())
        .on('error', () => undefined)
    }
    socket.on('close', () => sockets.delete(socket))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  opened.push({ close: () => (sockets.forEach((socket) => socket.destroy()), server.close()) })
  return { url: `http://127.0.0.1:${portOf(server)}`, sockets, state }
}

const failure = (work: Promise<unknown>): Promise<TandemError> =>
  work.then(
    () => {
      throw new Error('it succeeded')
    },
    (error: unknown) => error as TandemError,
  )

/** A promise, and what fulfils it. */
function deferred<Value = void>(): { promise: Promise<Value>; resolve: (value: Value) => void } {
  let resolve: (value: Value) => void = () => undefined
  const promise = new Promise<Value>((fulfil) => (resolve = fulfil))
  return { promise, resolve }
}

/** Holds the model up until the call is given up. */
const untilAborted = (signal?: AbortSignal): Promise<void> =>
  new Promise((_resolve, reject) =>
    signal?.addEventListener('abort', () => reject(signal.reason as Error)),
  )

describe('over a real bundle', () => {
  let local: Models
  let tandem: Tandem
  let models: Models
  const folder = join(packageFolder, 'test/fixtures/tiny-bundle')
  const image = (hue: number) =>
    sharp({ create: { width: 40, height: 30, channels: 3, background: `hsl(${hue}, 80%, 50%)` } })
      .png()
      .toBuffer()

  beforeAll(async () => {
    local = await openModels({ folder, inferenceThreads: 1, maxImagePixels: 1e6 })
    const config = {
      ...readConfig({}),
      role: 'encode' as const,
      logLevel: 'silent' as const,
      inferenceThreads: 1,
      maxImagePixels: 1e6,
    }
    tandem = await buildApp({ ...config, modelFolder: folder, dataFolder: '/nowhere/at/all' })
    const url = await tandem.app.listen({ host: '127.0.0.1', port: 0 })
    await tandem.start()
    models = await openRemoteModels({ url, timeoutMs: 30_000 })
  })
  afterAll(async () => {
    await models.close()
    await tandem.close()
    await local.close()
  })

  it('gives what models in the same process give, to the last bit', async () => {
    expect(models.info).toEqual(local.info)
    const texts = [
      'a red dog',
      'the sea',
      'a much longer sentence of more words than the others have',
      '',
    ]
    const there = await models.encodeTexts(texts)
    const here = await local.encodeTexts(texts)
    expect(there.encoded).toEqual(here.encoded)
    expect(Object.keys(there.timings).sort()).toEqual(Object.keys(here.timings).sort())
    const images = await Promise.all([0, 120, 240].map(image))
    const imagesThere = await models.encodeImages(images)
    const imagesHere = await local.encodeImages(images)
    expect(
      imagesThere.encoded.map(({ embedding, imageTokens }) => [embedding, imageTokens]),
    ).toEqual(imagesHere.encoded.map(({ embedding, imageTokens }) => [embedding, imageTokens]))
    expect(
      imagesThere.encoded.map(({ image: { bytes, ...rest } }) => [Buffer.from(bytes), rest]),
    ).toEqual(imagesHere.encoded.map(({ image: { bytes, ...rest } }) => [Buffer.from(bytes), rest]))
    const tokens = imagesHere.encoded.map(({ imageTokens }) => imageTokens)
    const pairs = [0, 1, 2].flatMap((image) =>
      texts.map((_, text) => ({ text, image, similarity: image / 3 - text / 7 })),
    )
    expect((await models.match(here.encoded, tokens, pairs)).matches).toEqual(
      (await local.match(here.encoded, tokens, pairs)).matches,
    )
  })

  it('returns no results for no inputs, and refuses an image as local models do', async () => {
    expect((await models.encodeTexts([])).encoded).toEqual([])
    expect((await models.encodeImages([])).encoded).toEqual([])
    expect((await models.match([], [], [])).matches).toEqual([])
    for (const bytes of [
      Buffer.from('no image'),
      (await image(1)).subarray(0, 60),
      await sharp({ create: { width: 1100, height: 1000, channels: 3, background: 'red' } })
        .png()
        .toBuffer(),
    ]) {
      const [there, here] = await Promise.all([
        failure(models.encodeImages([bytes])),
        failure(local.encodeImages([bytes])),
      ])
      expect([there.code, there.message]).toEqual([here.code, here.message])
    }
  })

  it('needs neither data folder nor lock, and refuses what asks for items', async () => {
    const answer = await tandem.app.inject({
      method: 'POST',
      url: '/rerank',
      payload: { query: 'a dog', documents: [{ id: 'photo' }] },
    })
    expect([answer.statusCode, answer.json()]).toMatchObject([501, { code: 'not_supported' }])
    const ranked = await tandem.app.inject({
      method: 'POST',
      url: '/rerank',
      payload: { query: 'a dog', documents: [{ image: (await image(3)).toString('base64') }] },
    })
    expect(ranked.json()).toMatchObject({
      results: [{ index: 0, match: expect.any(Number) as number }],
    })
    for (const url of ['/search?q=dog', '/items', '/index.html', '/reembedding', '/backups'])
      expect((await tandem.app.inject(url)).statusCode).toBe(404)
  })
})

describe('a call', () => {
  it('brings deadline, trace, priority and key, on a connection that is kept', async () => {
    const { encoder, url } = await wordEncoder()
    const calls: (Call | undefined)[] = []
    const encodeTexts = encoder.models.encodeTexts.bind(encoder.models)
    encoder.models.encodeTexts = (texts, call) => (calls.push(call), encodeTexts(texts, call))
    const models = await remote(url)
    const trace = { traceparent: `00-${'ab'.repeat(16)}-${'cd'.repeat(8)}-01`, tracestate: 'a=1' }
    let connections = 0
    encoder.app.server.on('connection', () => (connections += 1))
    for (let at = 0; at < 3; at += 1) {
      await models.encodeTexts(['dog'], {
        deadline: performance.now() + 700,
        trace,
        priority: 'bulk',
        pairsAhead: 9,
      })
    }
    const [call] = calls
    expect(call).toMatchObject({ priority: 'bulk', pairsAhead: 9, trace: { tracestate: 'a=1' } })
    expect(call?.trace?.traceparent).toMatch(
      new RegExp(`^00-${'ab'.repeat(16)}-(?!${'cd'.repeat(8)})[0-9a-f]{16}-01$`),
    )
    const left = (call?.deadline ?? Infinity) - performance.now()
    expect(left).toBeLessThan(700)
    // One of them may be the look that is had every second.
    expect(connections).toBeLessThanOrEqual(2)
  })

  it('is for the client of the search service, whose name it does not tell', async () => {
    const { encoder, url } = await wordEncoder()
    const clients: string[] = []
    const encodeTexts = encoder.models.encodeTexts.bind(encoder.models)
    encoder.models.encodeTexts = (texts, call) => {
      clients.push(call?.client ?? 'none')
      return encodeTexts(texts, call)
    }
    const models = await remote(url)
    for (const client of ['key anna', 'key ben', 'key anna', undefined])
      await models.encodeTexts(['dog'], { client })
    const [anna, ben, again, none] = clients
    expect(again).toBe(anna)
    expect(new Set([anna, ben, none]).size).toBe(3)
    for (const client of [anna, ben]) expect(client).toMatch(/^.+ for [0-9a-f]{16}$/)
    expect(none).not.toContain(' for ')
    expect(clients.join()).not.toMatch(/anna|ben/)
  })

  it('is broken off when its client goes, and costs the encoder nothing more', async () => {
    const { encoder, url } = await wordEncoder()
    const models = await remote(url)
    const heard = deferred<AbortSignal>()
    encoder.models.gate = (signal) => {
      heard.resolve(signal as AbortSignal)
      return untilAborted(signal)
    }
    const controller = new AbortController()
    const asked = failure(models.encodeTexts(['dog'], { signal: controller.signal }))
    const signal = await heard.promise
    const reason = new Error('the client has gone')
    controller.abort(reason)
    expect(await asked).toBe(reason)
    await expect.poll(() => signal.aborted).toBe(true)
    expect(models.stats()).toEqual({ queueDepth: 0, inFlight: 0, batches: [] })
    expect(await failure(models.encodeTexts(['dog'], { signal: controller.signal }))).toBe(reason)
  })

  it('is broken off through both services when the client of the first one hangs up', async () => {
    const { encoder, url } = await wordEncoder()
    const models = await remote(url)
    const front = await buildApp(
      { ...readConfig({}), logLevel: 'silent' },
      {
        open: () => Promise.resolve(new EncodeOnlyCollection(models)),
      },
    )
    opened.push({ close: () => front.close() })
    const address = await front.app.listen({ host: '127.0.0.1', port: 0 })
    await front.start()
    const heard = deferred<AbortSignal>()
    encoder.models.gate = (signal) => {
      heard.resolve(signal as AbortSignal)
      return untilAborted(signal)
    }
    const client = new AbortController()
    const body = JSON.stringify({ inputs: [{ text: 'dog' }] })
    const asked = failure(
      fetch(`${address}/embed`, {
        method: 'POST',
        body,
        headers: { 'content-type': 'application/json' },
        signal: client.signal,
      }),
    )
    const signal = await heard.promise
    expect([signal.aborted, models.stats().inFlight]).toEqual([false, 1])
    client.abort()
    await asked
    await expect.poll(() => signal.aborted).toBe(true)
    expect(models.stats().inFlight).toBe(0)
  })

  it('leaves nothing on a signal that lives on', async () => {
    const { url } = await wordEncoder()
    const models = await remote(url)
    const { signal } = new AbortController()
    const added = vi.spyOn(signal, 'addEventListener')
    const removed = vi.spyOn(signal, 'removeEventListener')
    for (let at = 0; at < 5; at += 1) await models.encodeTexts(['dog'], { signal })
    expect(added.mock.calls.length).toBeGreaterThan(0)
    expect(removed.mock.calls.length).toBeGreaterThanOrEqual(added.mock.calls.length)
  })

  it('takes the time that it has, and no more', async () => {
    const { encoder, url } = await wordEncoder()
    encoder.models.gate = untilAborted
    const models = await remote(url, { timeoutMs: 300 })
    expect(await failure(models.encodeTexts(['dog']))).toMatchObject({
      code: 'encoder_timeout',
      status: 504,
    })
    const asked = failure(models.encodeTexts(['dog'], { deadline: performance.now() + 200 }))
    expect(await asked).toMatchObject({
      code: 'encoder_timeout',
      message: expect.stringMatching(/took too long/) as string,
    })
  })

  it('waits its turn where it is bulk, and leaves it when its client goes', async () => {
    const { encoder, url } = await wordEncoder()
    const open = deferred()
    let begun = 0
    encoder.models.gate = () => ((begun += 1), open.promise)
    const models = await remote(url)
    const controller = new AbortController()
    const bulk = Array.from({ length: 20 }, (_, at) =>
      models.encodeTexts([`dog ${at}`], {
        priority: 'bulk',
        signal: at === 17 ? controller.signal : undefined,
      }),
    )
    await expect.poll(() => begun).toBe(16)
    expect(models.stats()).toEqual({ queueDepth: 4, inFlight: 16, batches: [] })
    controller.abort(new Error('gone'))
    await expect(bulk[17]).rejects.toThrow('gone')
    const search = models.encodeTexts(['cat'])
    await expect.poll(() => begun).toBe(17)
    open.resolve()
    await search
    expect(
      (await Promise.allSettled(bulk)).filter(({ status }) => status === 'fulfilled'),
    ).toHaveLength(19)
    expect(models.stats()).toEqual({ queueDepth: 0, inFlight: 0, batches: [] })
  })
})

describe('an encoder', () => {
  it('that is overloaded or has lost a process passes its error to the client of the search', async () => {
    const { encoder, url } = await wordEncoder()
    const models = await remote(url)
    encoder.models.gate = () =>
      Promise.reject(new TandemError('overloaded', '9 inputs wait.', { retryAfterS: 3 }))
    expect(await failure(models.encodeTexts(['dog']))).toMatchObject({
      code: 'overloaded',
      message: '9 inputs wait.',
      retryAfterS: 3,
    })
    encoder.models.gate = () =>
      Promise.reject(
        new TandemError('decoder_unavailable', 'It is started again.', { retryAfterS: 1 }),
      )
    expect(await failure(models.encodeImages([Buffer.from('dog')]))).toMatchObject({
      code: 'decoder_unavailable',
      status: 503,
    })
    encoder.models.gate = () => Promise.reject(new Error('a secret of the encoder'))
    const failed = await failure(models.encodeTexts(['dog']))
    expect(failed).toMatchObject({ code: 'encoder_failed', status: 502 })
    expect(failed.message).not.toContain('secret')
  })

  it('that does not know the key is one that failed, and the key is in no sentence', async () => {
    const { url } = await wordEncoder()
    const refused = await failure(remote(url, { apiKey: 'wrong-key-of-nobody' }))
    expect(refused).toMatchObject({
      code: 'encoder_failed',
      message: expect.stringMatching(/answered 401 unauthorized/) as string,
    })
    expect(refused.message).not.toContain('wrong-key')
  })

  it('that is none is refused at the start', async () => {
    const pages = await listening((_request, response) => response.end('<html>'))
    expect(await failure(remote(pages.url))).toMatchObject({
      message: expect.stringMatching(/is not an encoder: its reply is not JSON/) as string,
    })
    const other = await listening((_request, response) => response.end('{"fingerprint": "abc"}'))
    expect(await failure(remote(other.url))).toMatchObject({
      message: expect.stringMatching(/needs TANDEM_ROLE=encode/) as string,
    })
    const all = await startTestService()
    opened.push({ close: () => all.end() })
    const url = await all.app.listen({ host: '127.0.0.1', port: 0 })
    expect(await failure(remote(url))).toMatchObject({
      message: expect.stringMatching(/answered 404 route_not_found/) as string,
    })
  })

  it('that is not there yet is waited for', async () => {
    const { encoder, url } = await wordEncoder()
    const way = await wire(url)
    way.state.refusing = true
    expect(await failure(remote(way.url))).toMatchObject({
      code: 'encoder_unavailable',
      message: expect.stringMatching(/cannot be reached/) as string,
    })
    const models = remote(way.url, { waitMs: 20_000 })
    await sleep(400)
    way.state.refusing = false
    expect((await models).info).toEqual(encoder.models.info)
  })

  it('that breaks a connection off is asked again, a few times', async () => {
    const { encoder, url } = await wordEncoder()
    const way = await wire(url)
    const models = await remote(way.url)
    let broken = 0
    encoder.models.gate = () => {
      if ((broken += 1) <= 2) way.sockets.forEach((socket) => socket.destroy())
      return Promise.resolve()
    }
    expect((await models.encodeTexts(['dog'])).encoded).toHaveLength(1)
    expect(broken).toBe(3)
    broken = -9
    expect(await failure(models.encodeTexts(['dog']))).toMatchObject({
      code: 'encoder_unavailable',
      status: 503,
      retryAfterS: 1,
    })
  })

  it(
    'that goes away is reported at once, and is used again when it returns',
    { timeout: 60_000 },
    async () => {
      const { encoder, url } = await wordEncoder()
      const way = await wire(url)
      const said: string[] = []
      const models = await openRemoteModels({
        url: way.url,
        apiKey: KEY,
        timeoutMs: 60_000,
        report: (sentence) => said.push(sentence),
      })
      opened.push(models)
      encoder.models.gate = untilAborted
      const waits = failure(models.encodeTexts(['dog']))
      way.state.silent = true
      // Nobody answers it any more: it is given up when the encoder is known to be away.
      expect(await waits).toMatchObject({ code: 'encoder_timeout', status: 504 })
      expect(models.workers).toMatchObject([{ name: 'encoder', ready: false, restarts: 0 }])
      const asked = performance.now()
      expect(await failure(models.encodeTexts(['dog']))).toMatchObject({
        code: 'encoder_unavailable',
      })
      expect(performance.now() - asked).toBeLessThan(1000)
      way.state.silent = false
      encoder.models.gate = () => Promise.resolve()
      await expect
        .poll(() => models.workers, { timeout: 20_000 })
        .toMatchObject([{ name: 'encoder', ready: true, restarts: 1 }])
      expect((await models.encodeTexts(['dog'])).encoded).toHaveLength(1)
      expect(said).toEqual([
        expect.stringMatching(/has not answered within/),
        expect.stringMatching(/is available again/),
      ])
    },
  )

  it(
    'that serves another bundle is refused, and none of its results are used',
    { timeout: 60_000 },
    async () => {
      const { encoder, url } = await wordEncoder()
      const models = await remote(url)
      const { fingerprint } = models.info
      const encoding = vi.spyOn(encoder.models, 'encodeTexts')
      Object.defineProperty(encoder.models, 'info', {
        value: { ...models.info, fingerprint: 'fedcba9876543210' },
      })
      const refused = await failure(models.encodeTexts(['dog']))
      expect(refused).toMatchObject({ code: 'encoder_unavailable', status: 503 })
      expect(refused.message).toContain('fedcba9876543210')
      expect(encoding).not.toHaveBeenCalled()
      await expect.poll(() => models.workers[0]?.ready, { timeout: 20_000 }).toBe(false)
      expect(models.info.fingerprint).toBe(fingerprint)
      expect(await failure(models.encodeTexts(['dog']))).toMatchObject({
        code: 'encoder_unavailable',
      })
    },
  )

  it('whose reply is of another bundle, malformed or too long is refused', async () => {
    const { encoder } = await wordEncoder()
    let spoil: (body: Buffer) => Buffer = (body) => body
    const { url: between } = await listening((request, response) => {
      const asked: Buffer[] = []
      request
        .on('data', (piece: Buffer) => asked.push(piece))
        .on('end', () => {
          const headers = Object.fromEntries(
            Object.entries(request.headers).filter(([name]) => name !== 'host'),
          )
          const payload = Buffer.concat(asked)
          void encoder.app
            .inject({
              method: request.method as 'GET',
              url: request.url ?? '',
              headers: headers as Record<string, string>,
              ...(payload.length > 0 ? { payload } : {}),
            })
            .then((answer) =>
              response
                .writeHead(answer.statusCode, {
                  'content-type': String(answer.headers['content-type']),
                })
                .end(request.method === 'POST' ? spoil(answer.rawPayload) : answer.rawPayload),
            )
        })
    })
    const models = await remote(between)
    expect((await models.encodeTexts(['dog'])).encoded).toHaveLength(1)
    spoil = (body) =>
      Buffer.from(
        body.toString('latin1').replace(models.info.fingerprint, 'fedcba9876543210'),
        'latin1',
      )
    expect(await failure(models.encodeTexts(['dog']))).toMatchObject({
      code: 'encoder_unavailable',
      message: expect.stringContaining('fedcba9876543210') as string,
    })
    for (const bad of [
      (body: Buffer) => body.subarray(0, -1),
      () => Buffer.from('no frame'),
      () => Buffer.alloc(0),
      () => askTexts(['dog'], models.info, {}),
    ]) {
      spoil = bad
      expect(await failure(models.encodeTexts(['dog']))).toMatchObject({
        code: 'encoder_failed',
        status: 502,
      })
    }
    spoil = () => Buffer.alloc(100_000)
    expect(await failure(models.encodeTexts(['dog']))).toMatchObject({
      code: 'encoder_failed',
      message: expect.stringMatching(/more than the expected \d+ bytes/) as string,
    })
  })
})
