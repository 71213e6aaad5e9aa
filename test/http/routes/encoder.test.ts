import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { askImages, askMatch, askTexts } from '../../../src/model/remote/protocol.js'
import { FRAME_TYPE, readFrame, writeFrame } from '../../../src/model/remote/frames.js'
import { startTestService, type TestService } from '../../support/test-service.js'

let tandem: TestService
beforeAll(async () => {
  tandem = await startTestService({ role: 'encode', maxBodyBytes: 10_000 })
})
afterAll(() => tandem.end())

async function post(url: string, payload: Buffer | string, type = FRAME_TYPE) {
  const answer = await tandem.app.inject({
    method: 'POST',
    url,
    payload,
    headers: { 'content-type': type },
  })
  return {
    status: answer.statusCode,
    code: String(answer.headers['content-type']).includes('json')
      ? answer.json<{ code: string }>().code
      : '',
    bytes: answer.rawPayload,
  }
}

describe('the encoder routes', () => {
  it('GET /encoder describes the bundle once calls are answered', async () => {
    expect((await tandem.app.inject('/encoder')).json()).toMatchObject({
      name: 'words',
      dim: 64,
      image_tokens: { count: 1, width: 4 },
      token_width: 1,
    })
    const starting = await startTestService({ role: 'encode' }, false)
    const answer = await starting.app.inject('/encoder')
    expect([answer.statusCode, answer.json()]).toMatchObject([503, { code: 'not_ready' }])
    await starting.end()
  })

  it('accepts an image that fills the largest body of a search service', async () => {
    const { info } = tandem.models
    const { status, bytes } = await post(
      '/encoder/images',
      askImages([Buffer.alloc(10_000, 'dog ')], info, {}),
    )
    expect([status, readFrame(bytes).parts.length]).toEqual([200, 3])
    const tooLarge = await post(
      '/encoder/images',
      askImages([Buffer.alloc(10_000 + 2 ** 20)], info, {}),
    )
    expect([tooLarge.status, tooLarge.code]).toEqual([413, 'body_too_large'])
  })

  it('refuses malformed frames, missing parts and other bundles', async () => {
    const { info } = tandem.models
    const asks = {
      texts: askTexts(['dog'], info, {}),
      images: askImages([Buffer.from('dog')], info, {}),
    }
    expect(await post('/encoder/texts', '{"texts":["dog"]}', 'application/json')).toMatchObject({
      status: 415,
      code: 'media_type_unsupported',
    })
    expect(await post('/encoder/texts', 'texts')).toMatchObject({
      status: 400,
      code: 'body_unreadable',
    })
    expect(await post('/encoder/texts', asks.images)).toMatchObject({
      status: 400,
      code: 'body_unreadable',
    })
    expect(await post('/encoder/images', asks.texts)).toMatchObject({
      status: 400,
      code: 'body_unreadable',
    })
    expect(await post('/encoder/match', asks.images)).toMatchObject({
      status: 400,
      code: 'body_unreadable',
    })
    const other = askTexts(['dog'], { ...info, fingerprint: 'fedcba9876543210' }, {})
    expect(await post('/encoder/texts', other)).toMatchObject({
      status: 409,
      code: 'bundle_mismatch',
    })
    for (const head of [
      {},
      { fingerprint: 7 },
      { fingerprint: info.fingerprint, priority: 'high', pairs_ahead: 0, texts: ['a'] },
      { fingerprint: info.fingerprint, priority: 'bulk', pairs_ahead: -1, texts: ['a'] },
      {
        ...{ fingerprint: info.fingerprint, priority: 'bulk', pairs_ahead: 0, texts: ['a'] },
        client: 'key anna',
      },
    ]) {
      expect(await post('/encoder/texts', writeFrame(head))).toMatchObject({
        status: 400,
        code: 'body_unreadable',
      })
    }
  })

  it('gives each client of a service that searches its share of the permits', async () => {
    const service = await startTestService({ role: 'encode', maxConcurrentRequests: 8 })
    let open = (): void => undefined
    const gate = new Promise<void>((resolve) => (open = resolve))
    service.models.gate = () => gate
    const ask = async (client: string) => {
      const payload = askTexts(['dog'], service.models.info, { client })
      const headers = { 'content-type': FRAME_TYPE }
      const url = '/encoder/texts'
      const answer = await service.app.inject({ method: 'POST', url, payload, headers })
      return answer.statusCode === 200 ? 'answered' : answer.json<{ detail: string }>().detail
    }
    const calls = [...Array<string>(7).fill('anna'), 'bert', 'bert'].map(ask)
    // Six of eight are the share of one client alone.
    expect(await calls[6]).toContain('6 requests of this client are being answered')
    open()
    expect(await Promise.all([...calls.slice(0, 6), ...calls.slice(7)])).toEqual(
      Array(8).fill('answered'),
    )
    await service.end()
  })

  it('refuses a text of more than 10,000 characters and a head of many values', async () => {
    const service = await startTestService({ role: 'encode' })
    const { info } = service.models
    const ask = async (payload: Buffer) => {
      const headers = { 'content-type': FRAME_TYPE }
      const url = '/encoder/texts'
      const answer = await service.app.inject({ method: 'POST', url, payload, headers })
      return { status: answer.statusCode, body: answer.body }
    }
    expect((await ask(askTexts(['dog', '😀'.repeat(10_000)], info, {}))).status).toBe(200)
    const long = await ask(askTexts(['dog', 'x'.repeat(10_001)], info, {}))
    expect([long.status, JSON.parse(long.body)]).toMatchObject([
      422,
      {
        code: 'text_too_long',
        detail: 'texts[1] has 10001 characters; expected at most 10000.',
      },
    ])
    const many = await ask(writeFrame({ texts: Array.from({ length: 60_000 }, () => ({})) }))
    expect([many.status, JSON.parse(many.body)]).toMatchObject([400, { code: 'body_unreadable' }])
    await service.end()
  })

  it('answers any mutated frame with a frame or a client error', async () => {
    const { info } = tandem.models
    const { encoded } = await tandem.models.encodeTexts(['dog', 'cat'])
    const tokens = [new Int8Array(4), new Int8Array(4)]
    const pairs = [
      { text: 0, image: 1, similarity: 0.5 },
      { text: 1, image: 0, similarity: 0.25 },
    ]
    const good = askMatch({ texts: encoded, imageTokens: tokens, pairs }, info, {})
    expect((await post('/encoder/match', good)).status).toBe(200)
    await fc.assert(
      fc.asyncProperty(
        fc.nat(good.length - 1),
        fc.integer({ min: 1, max: 255 }),
        fc.boolean(),
        async (at, change, cut) => {
          const bytes = cut ? good.subarray(0, at) : Buffer.from(good)
          if (!cut) bytes[at] = (bytes[at] ?? 0) ^ change
          expect([200, 400, 409]).toContain((await post('/encoder/match', bytes)).status)
        },
      ),
      { numRuns: 300 },
    )
  })
})
