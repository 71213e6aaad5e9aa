/** Bad input against the real models: a clear error, and the service still answers. */
import { connect } from 'node:net'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { buildApp, type Tandem } from '../../src/http/app.js'
import { packageFolder, readConfig } from '../../src/config.js'
import type { Problem } from '../../src/http/schemas/fields.js'
import { animatedGif, jpeg, plainPng, svg, working } from '../support/images.js'

vi.setConfig({ testTimeout: 180_000 })

let tandem: Tandem
let folder: string
let address: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-'))
  tandem = await buildApp({
    ...readConfig({}),
    logLevel: 'silent',
    dataFolder: folder,
    modelFolder: join(packageFolder, 'test/fixtures/tiny-bundle'),
    vectorIndex: 'exact',
    inferenceThreads: 1,
  })
  address = await tandem.app.listen({ host: '127.0.0.1', port: 0 })
  await tandem.start()
})

afterAll(async () => {
  await tandem.close()
  await rm(folder, { recursive: true, force: true })
})

// The service still answers and has stored none of the input.
afterEach(async () => {
  expect((await fetch(`${address}/health/ready`)).status).toBe(200)
  expect((await fetch(`${address}/search?q=red&rerank=true`)).status).toBe(200)
})

type Body = NonNullable<RequestInit['body']>

const put = (id: string, body: Body, type = 'image/jpeg') =>
  fetch(`${address}/items/${encodeURIComponent(id)}`, {
    method: 'PUT',
    body,
    headers: { 'content-type': type },
  })

const post = (path: string, body: Body | null, type: string | null = 'application/json') =>
  fetch(`${address}${path}`, {
    method: 'POST',
    body,
    headers: type === null ? {} : { 'content-type': type },
  })

async function expectProblem(
  reply: Response,
  status: number,
  code: string,
  sentence: string | RegExp,
): Promise<void> {
  expect(reply.headers.get('content-type')).toBe('application/problem+json')
  const problem = (await reply.json()) as Problem
  expect(problem).toMatchObject({ status, code })
  expect(reply.status).toBe(status)
  expect(problem.detail).toMatch(sentence)
  expect(JSON.stringify(problem)).not.toMatch(/node_modules|\.ts:|\.js:/)
}

describe('valid images', () => {
  it.each(Object.keys(working))('an image as %s is added, found and returned', async (kind) => {
    const bytes = await working[kind]?.()
    const id = `works: ${kind}`
    expect((await put(id, new Uint8Array(bytes ?? []), 'application/octet-stream')).status).toBe(
      201,
    )
    const shown = await fetch(`${address}/items/${encodeURIComponent(id)}/image`)
    expect(shown.headers.get('content-type')).toBe('image/jpeg')
    const image = sharp(Buffer.from(await shown.arrayBuffer()))
    expect(await image.metadata()).toMatchObject({
      format: 'jpeg',
      space: expect.stringMatching(/srgb|b-w/) as string,
      depth: 'uchar',
    })
    const { hits } = (await (await post('/search', JSON.stringify({ id, k: 1000 }))).json()) as {
      hits: { id: string }[]
    }
    expect(hits.map((hit) => hit.id)).not.toContain(id)
  })

  it('an image with an EXIF orientation is stored upright', async () => {
    await put('turned', new Uint8Array((await working['an EXIF-rotated JPEG']?.()) ?? []))
    const shown = Buffer.from(await (await fetch(`${address}/items/turned/image`)).arrayBuffer())
    // Orientation 6: the left of the file is the top of the image.
    const { data, info } = await sharp(shown).raw().toBuffer({ resolveWithObject: true })
    const [redOfTop = 0, , blueOfTop = 0] = data.subarray((2 * info.width + 12) * 3)
    const [redOfBottom = 0, , blueOfBottom = 0] = data.subarray((21 * info.width + 12) * 3)
    expect(redOfTop).toBeGreaterThan(blueOfTop + 100)
    expect(blueOfBottom).toBeGreaterThan(redOfBottom + 100)
  })

  it('an animation is stored as its first frame', async () => {
    await put('moving', new Uint8Array(await animatedGif()), 'image/gif')
    const shown = sharp(
      Buffer.from(await (await fetch(`${address}/items/moving/image`)).arrayBuffer()),
    )
    expect(await shown.metadata()).toMatchObject({ width: 24, height: 24 })
  })
})

describe('invalid images', () => {
  it('a truncated JPEG is refused', async () => {
    const whole = await sharp({
      create: {
        width: 400,
        height: 300,
        channels: 3,
        background: 'teal',
        noise: { type: 'gaussian', mean: 128, sigma: 40 },
      },
    })
      .jpeg()
      .toBuffer()
    for (const part of [0.5, 0.9]) {
      const cut = new Uint8Array(whole.subarray(0, Math.floor(whole.length * part)))
      await expectProblem(await put('refused', cut), 422, 'image_unreadable', /.+/)
    }
    expect((await fetch(`${address}/items/refused`)).status).toBe(404)
  })

  it('a text file named .jpg is refused', async () => {
    await expectProblem(
      await put('refused.jpg', 'This is not an image.'),
      415,
      'image_type_unsupported',
      /.+/,
    )
  })

  it('an SVG is refused with any Content-Type', async () => {
    for (const type of ['image/svg+xml', 'image/png']) {
      await expectProblem(
        await put('refused', new Uint8Array(svg), type),
        415,
        'image_type_unsupported',
        /.+/,
      )
    }
  })

  it('a PNG of 20,000 × 20,000 pixels is refused by its header', async () => {
    const bomb = new Uint8Array(plainPng(20_000, 20_000))
    const begun = performance.now()
    await expectProblem(await put('refused', bomb, 'image/png'), 413, 'image_too_large', /20,?000/)
    expect(performance.now() - begun).toBeLessThan(4000)
  })

  it('an empty body and a single byte are refused', async () => {
    await expectProblem(await put('refused', ''), 400, 'body_missing', /empty/)
    await expectProblem(await put('refused', 'x'), 415, 'image_type_unsupported', /.+/)
  })

  it('an image with a broken header is refused', async () => {
    const broken = new Uint8Array(await jpeg())
    broken.fill(0, 2, 100)
    const reply = await put('refused', broken)
    expect([415, 422]).toContain(reply.status)
  })

  it('an error of an image in JSON names its place', async () => {
    const good = (await jpeg()).toString('base64')
    const bad = Buffer.from('no image at all').toString('base64')
    const reply = await post(
      '/embed',
      JSON.stringify({ inputs: [{ image: good }, { text: 'red' }, { image: bad }] }),
    )
    await expectProblem(reply, 415, 'image_type_unsupported', /^inputs\[2\]/)
  })
})

describe('invalid bodies', () => {
  it.each(['/embed', '/search', '/rerank', '/items'])(
    '%s refuses a missing, a malformed and an unsupported body',
    async (path) => {
      await expectProblem(await post(path, null, null), 400, 'body_missing', /no body/)
      await expectProblem(
        await post(path, '<xml/>', 'application/xml'),
        415,
        'media_type_unsupported',
        /application\/xml/,
      )
      if (path === '/items') return
      await expectProblem(await post(path, '{"text": "a"'), 400, 'body_unreadable', /JSON/)
      await expectProblem(
        await post(path, '{"text":"a","__proto__":{"k":1}}'),
        400,
        'body_unreadable',
        /.+/,
      )
    },
  )

  it('a text of 1 MB is refused', async () => {
    const text = 'word '.repeat(200_000)
    await expectProblem(
      await post('/embed', JSON.stringify({ inputs: [{ text }] })),
      422,
      'text_too_long',
      /1000000 characters; expected at most 10000/,
    )
    await expectProblem(
      await post('/search', JSON.stringify({ text })),
      422,
      'text_too_long',
      /1000000/,
    )
    await expectProblem(
      await post('/rerank', JSON.stringify({ query: 'a', documents: [text] })),
      422,
      'text_too_long',
      /documents\[0\]/,
    )
  })

  it('an empty text and one of spaces are refused', async () => {
    for (const text of ['', ' \n\t']) {
      await expectProblem(
        await post('/search', JSON.stringify({ text })),
        422,
        'invalid_request',
        /visible character/,
      )
    }
  })

  it('a body above the limit is refused', async () => {
    const reply = await put('refused', new Uint8Array(21 * 1024 * 1024))
    await expectProblem(reply, 413, 'body_too_large', /20971520/)
  })

  it('unusual texts are accepted', async () => {
    for (const text of [
      '🐕',
      'שלום',
      '\u0000\u0007 a',
      '\ud800 alone',
      'a'.repeat(9999),
      '<script>',
      'مرحبا 写真',
      '[CLS] [SEP] [PAD]',
    ]) {
      expect(
        (await post('/search', JSON.stringify({ text }))).status,
        JSON.stringify(text.slice(0, 20)),
      ).toBe(200)
    }
  })

  it('a malformed form is refused', async () => {
    await expectProblem(
      await post('/embed', 'x', 'multipart/form-data'),
      400,
      'body_unreadable',
      /form/,
    )
    await expectProblem(
      await post('/embed', '--b\r\nnonsense', 'multipart/form-data; boundary=b'),
      400,
      'body_unreadable',
      /form/,
    )
  })

  it('a malformed line does not affect the others', async () => {
    const image = (await jpeg()).toString('base64')
    const lines = [
      JSON.stringify({ id: 'n1', image }),
      '{"id": "n2", "image": ',
      JSON.stringify({ id: 'n3', image }),
    ]
    const reply = await post('/items', lines.join('\n'), 'application/x-ndjson')
    expect(await reply.json()).toMatchObject({
      created: 2,
      failed: 1,
      items: [{ id: 'n1' }, { id: null, status: 'failed' }, { id: 'n3' }],
    })
  })
})

describe('malformed HTTP', () => {
  const raw = async (text: string): Promise<string> => {
    const socket = connect(Number(new URL(address).port), '127.0.0.1')
    socket.end(text)
    const chunks: Buffer[] = []
    for await (const chunk of socket as AsyncIterable<Buffer>) chunks.push(chunk)
    return Buffer.concat(chunks).toString()
  }

  it('an address that is too long is refused', async () => {
    await expectProblem(
      await fetch(`${address}/search?q=${'x'.repeat(20_000)}`),
      431,
      'headers_too_large',
      /16 KiB/,
    )
  })

  it('bytes that are not HTTP are answered with 400', async () => {
    expect(await raw('nonsense\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 [^]*"code":"request_unreadable"/)
  })

  it('a body shorter than its Content-Length is refused', async () => {
    const reply = await raw(
      'POST /embed HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"inputs"',
    )
    expect(reply === '' || reply.startsWith('HTTP/1.1 400')).toBe(true)
  })
})

describe('invalid parameters', () => {
  it.each([
    'k=0',
    'k=1000000000',
    'k=-1',
    'k=NaN',
    'k=1e400',
    'candidates=0',
    'min_match=-0.1',
    'min_match=1.1',
    'q=again',
    'K=3',
    'constructor=1',
  ])('GET /search?q=red&%s', async (query) => {
    await expectProblem(
      await fetch(`${address}/search?q=red&${query}`),
      422,
      'invalid_request',
      /expected/,
    )
  })

  it('unknown and invalid ids are refused', async () => {
    for (const id of ['nobody', '写真', 'a/b/../c']) {
      await expectProblem(
        await fetch(`${address}/items/${encodeURIComponent(id)}`),
        404,
        'item_not_found',
        /There is no item/,
      )
    }
    await expectProblem(
      await fetch(`${address}/items/${'x'.repeat(300)}`),
      422,
      'invalid_request',
      /1 to 256 characters/,
    )
    await expectProblem(
      await fetch(`${address}/items/%00`),
      422,
      'invalid_request',
      /control characters/,
    )
    await expectProblem(await fetch(`${address}/items/%zz`), 400, 'url_unreadable', /percent/)
  })
})
