/** The processes that decode images: one may die and hang, and then another one decodes. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { availableCores } from '../../../src/model/inference/cpu-quota.js'
import { Decoder } from '../../../src/model/image/decoder.js'
import { preprocess } from '../../../src/model/image/preprocess.js'
import { plainPng, working } from '../../support/images.js'

vi.setConfig({ testTimeout: 60_000 })

const SIZE = 32
const MAX_PIXELS = 200_000_000
let decoder: Decoder

beforeEach(async () => {
  decoder = await Decoder.open({ maxPixels: MAX_PIXELS })
})

afterEach(() => decoder.close())

/** An animation of 300,000 frames; libwebp searches them from the start for each one. */
function endlessWebp(): Buffer {
  const chunk = (type: string, data: Buffer): Buffer => {
    const head = Buffer.alloc(8)
    head.write(type, 'latin1')
    head.writeUInt32LE(data.length, 4)
    return Buffer.concat([head, data, Buffer.alloc(data.length % 2)])
  }
  // One lossless pixel, at 0, 0, for 100 ms.
  const pixel = chunk('VP8L', Buffer.from('2f00000010071011118888fe0700', 'hex'))
  const frame = chunk(
    'ANMF',
    Buffer.concat([Buffer.alloc(12), Buffer.from('64000000', 'hex'), pixel]),
  )
  const canvas = chunk('VP8X', Buffer.from('02000000ff0000ff0000', 'hex'))
  const frames = Array<Buffer>(300_000).fill(frame)
  return chunk(
    'RIFF',
    Buffer.concat([
      Buffer.from('WEBP'),
      canvas,
      chunk('ANIM', Buffer.alloc(6)),
      ...[Buffer.concat(frames)],
    ]),
  )
}

const image = (): Promise<Buffer> => (working['a JPEG'] as () => Promise<Buffer>)()

describe('the decoder', () => {
  it.each(Object.entries(working))('gives of %s what decoding it here gives', async (_, make) => {
    const bytes = await make()
    const [there, here] = await Promise.all([
      decoder.decode(bytes, { size: SIZE }),
      preprocess(bytes, { size: SIZE }, MAX_PIXELS),
    ])
    expect(Buffer.compare(there.pixels as Uint8Array, here.pixels)).toBe(0)
    expect(Buffer.compare(there.image.bytes, here.image.bytes)).toBe(0)
    expect({ ...there.image, bytes: null }).toEqual({ ...here.image, bytes: null })
  })

  it('writes the pixels to the given file, and returns them when it cannot', async () => {
    const [bytes, folder] = [await image(), await mkdtemp(join(tmpdir(), 'tandem-decoded-'))]
    const { pixels } = await preprocess(bytes, { size: SIZE }, MAX_PIXELS)
    const into = join(folder, 'pixels')
    expect((await decoder.decode(bytes, { size: SIZE }, { into })).pixels).toEqual({ file: into })
    expect(Buffer.compare(await readFile(into), pixels)).toBe(0)
    // It is there already.
    expect(
      Buffer.compare(
        (await decoder.decode(bytes, { size: SIZE }, { into })).pixels as Uint8Array,
        pixels,
      ),
    ).toBe(0)
    await rm(folder, { recursive: true })
  })

  it('makes no image to store where none is wanted', async () => {
    const bytes = await image()
    const [whole, part] = await Promise.all([
      decoder.decode(bytes, { size: SIZE }),
      decoder.decode(bytes, { size: SIZE }, { isStored: false }),
    ])
    expect(part).toEqual({ ...whole, image: { ...whole.image, bytes: new Uint8Array() } })
  })

  it('refuses as decoding here does', async () => {
    await expect(decoder.decode(new Uint8Array(0), { size: SIZE })).rejects.toMatchObject({
      code: 'image_unreadable',
    })
    await expect(decoder.decode(Buffer.from('a note'), { size: SIZE })).rejects.toMatchObject({
      code: 'image_type_unsupported',
    })
    await expect(decoder.decode(plainPng(20_000, 1), { size: SIZE })).rejects.toMatchObject({
      code: 'image_too_large',
      message: expect.stringContaining('20000 × 1 pixels') as string,
    })
  })

  it('loses only the image whose process died, and decodes others meanwhile', async () => {
    const bytes = await sharp(plainPng(16_000, 6_000)).png().toBuffer()
    const [first, second] = [
      decoder.decode(bytes, { size: SIZE }),
      decoder.decode(bytes, { size: SIZE }),
    ]
    const failed = expect(first).rejects.toMatchObject({
      code: 'decoder_unavailable',
      retryAfterS: 1,
    })
    process.kill(decoder.statuses[0]?.pid as number, 'SIGSEGV')
    await failed
    expect((await decoder.decode(await image(), { size: SIZE })).image.width).toBeGreaterThan(0)
    expect((await second).image.width).toBe(512)
    await expect
      .poll(() => decoder.statuses.every(({ ready }) => ready), { timeout: 15_000 })
      .toBe(true)
    expect(decoder.statuses.map(({ restarts }) => restarts).sort()).toEqual([
      ...decoder.statuses.slice(1).map(() => 0),
      1,
    ])
  })

  it('keeps its processes where images are refused by their scans', async () => {
    const pids = decoder.statuses.map(({ pid }) => pid)
    const scan = Buffer.from('ffda000801010000003f0000', 'hex')
    const start = await sharp(plainPng(64, 64)).jpeg({ progressive: true }).toBuffer()
    const bytes = Buffer.concat([start.subarray(0, -2), ...Array<Buffer>(200_000).fill(scan)])
    for (let at = 0; at < 3; at += 1)
      await expect(decoder.decode(bytes, { size: SIZE })).rejects.toMatchObject({
        code: 'image_too_costly',
      })
    expect(decoder.statuses.map(({ pid }) => pid)).toEqual(pids)
  })

  it(
    'refuses an image that costs too much, while another client is served',
    { timeout: 180_000 },
    async () => {
      const frames = endlessWebp()
      const hostile = [1, 2].map(() =>
        decoder.decode(frames, { size: SIZE }, { client: 'hostile' }),
      )
      const refused = Promise.allSettled(hostile)
      const bytes = await image()
      let served = 0
      const isOver = refused.then(() => true)
      while ((await Promise.race([isOver, Promise.resolve(false)])) === false) {
        await decoder.decode(bytes, { size: SIZE }, { client: 'good' })
        served += 1
      }
      for (const outcome of await refused)
        expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'image_too_costly' } })
      expect(served).toBeGreaterThan(10)
      await decoder.decode(bytes, { size: SIZE }, { client: 'hostile' })
    },
  )
})

it('leaves a process to quick images, however many clients send slow ones', async () => {
  const bytes = await image()
  const clients = Array.from({ length: 2 * availableCores() + 2 }, (_, at) => `client ${at}`)
  // Starts all processes.
  await Promise.all(clients.map((client) => decoder.decode(bytes, { size: SIZE }, { client })))
  const large = await sharp(plainPng(16_000, 6_000)).png().toBuffer()
  let decoded = 0
  const slow = clients.map(async (client) => {
    await decoder.decode(large, { size: SIZE }, { client })
    decoded += 1
  })
  await decoder.decode(bytes, { size: SIZE }, { client: 'another' })
  expect(decoded).toBe(0)
  await Promise.all(slow)
})

it('an image that takes too long is given up', async () => {
  const slow = await sharp(plainPng(16_000, 8_000)).jpeg({ progressive: true }).toBuffer()
  const started = performance.now()
  const outcome = await preprocess(slow, { size: SIZE }, MAX_PIXELS, true, 1).catch(
    (error: unknown) => error,
  )
  // A machine that decodes it within the second has no reason to give up.
  if (performance.now() - started > 1300) expect(outcome).toMatchObject({ code: 'timed_out' })
})
