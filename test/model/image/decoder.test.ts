/** The process that decodes images: it may die and hang, and then another one decodes. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Decoder } from '../../../src/model/image/decoder.js'
import { preprocess } from '../../../src/model/image/preprocess.js'
import { plainPng, working } from '../../support/images.js'

vi.setConfig({ testTimeout: 60_000 })

const SIZE = 32
const MAX_PIXELS = 200_000_000
let decoder: Decoder

beforeEach(async () => {
  decoder = await Decoder.open(MAX_PIXELS)
})

afterEach(() => decoder.close())

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
    expect((await decoder.decode(bytes, { size: SIZE }, into)).pixels).toEqual({ file: into })
    expect(Buffer.compare(await readFile(into), pixels)).toBe(0)
    // It is there already.
    expect(
      Buffer.compare(
        (await decoder.decode(bytes, { size: SIZE }, into)).pixels as Uint8Array,
        pixels,
      ),
    ).toBe(0)
    await rm(folder, { recursive: true })
  })

  it('makes no image to store where none is wanted', async () => {
    const bytes = await image()
    const [whole, part] = await Promise.all([
      decoder.decode(bytes, { size: SIZE }),
      decoder.decode(bytes, { size: SIZE }, null, false),
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

  it('decodes again after it died while decoding images', async () => {
    const bytes = await sharp(plainPng(16_000, 6_000)).png().toBuffer()
    const outcomes = Promise.allSettled([
      decoder.decode(bytes, { size: SIZE }),
      decoder.decode(bytes, { size: SIZE }),
    ])
    process.kill(decoder.status.pid as number, 'SIGSEGV')
    for (const outcome of await outcomes) {
      expect(outcome).toMatchObject({
        status: 'rejected',
        reason: { code: 'decoder_unavailable', retryAfterS: 1 },
      })
    }
    await expect(decoder.decode(bytes, { size: SIZE })).rejects.toMatchObject({
      code: 'decoder_unavailable',
    })
    const again = async (): Promise<number> =>
      ((await decoder.decode(await image(), { size: SIZE })).pixels as Uint8Array).length
    await expect.poll(again, { timeout: 15_000 }).toBe(SIZE * SIZE * 3)
    expect(decoder.status.restarts).toBe(1)
  })
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
