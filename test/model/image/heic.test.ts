/** HEIC files of test/fixtures/heif, each of four quarters; made by libheif and x265. */
import { readFileSync } from 'node:fs'
import Module from 'node:module'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { preprocess } from '../../../src/model/image/preprocess.js'
import { isoBox } from '../../support/image-files.js'

vi.setConfig({ testTimeout: 60_000 })

const fixture = (name: string): Buffer =>
  readFileSync(new URL(`../../fixtures/heif/${name}.heic`, import.meta.url))
const SIZE = 32
const TOLERANCE = 3
const [RED, BLUE, GREEN, YELLOW] = [
  [200, 30, 40],
  [20, 60, 190],
  [40, 160, 60],
  [230, 220, 90],
]
const swapped = ([r, g, b]: number[] = []): (number | undefined)[] => [g, r, b]

/** The colours in the middle of the four quarters, row by row. */
async function quartersOf(bytes: Uint8Array): Promise<number[][]> {
  const { pixels } = await preprocess(bytes, { size: SIZE }, 1e6)
  return [0, 1, 2, 3].map((i) => {
    const [x, y] = [SIZE / 4 + (i % 2) * (SIZE / 2), SIZE / 4 + Math.floor(i / 2) * (SIZE / 2)]
    return [...pixels.subarray(3 * (y * SIZE + x), 3 * (y * SIZE + x) + 3)]
  })
}

describe('a HEIC image', () => {
  it.each<[string, string, unknown[]]>([
    ['is read', 'quarters', [RED, BLUE, GREEN, YELLOW]],
    ['is turned as its file says', 'turned', [GREEN, RED, YELLOW, BLUE]],
    ['has the colours of its profile', 'profile', [RED, BLUE, GREEN, YELLOW].map(swapped)],
    [
      'has its transparency on white',
      'clear',
      [RED, BLUE?.map((value) => (value + 255) / 2), [255, 255, 255], YELLOW],
    ],
  ])('%s', async (_, name, expected) => {
    const found = (await quartersOf(fixture(name))).flat()
    const distances = (expected as number[][]).flat().map((value, i) => value - (found[i] ?? 0))
    const most = Math.max(...distances.map(Math.abs))
    expect(most, found.join()).toBeLessThanOrEqual(TOLERANCE)
  })

  it('is read by its content, under the main brand of any HEIF', async () => {
    const bytes = fixture('quarters')
    const length = bytes.readUInt32BE(0)
    const brands = 'mif1\0\0\0\0mif1miaf'.padEnd(length - 8, 'miaf').slice(0, length - 8)
    const box = isoBox('ftyp', Buffer.from(brands, 'latin1'))
    const [red] = await quartersOf(Buffer.concat([box, bytes.subarray(length)]))
    expect(red?.[0]).toBeGreaterThan(190)
  })

  it('that claims too many pixels is refused before it is decoded', async () => {
    const bytes = Buffer.from(fixture('quarters'))
    for (let at = bytes.indexOf('ispe'); at > 0; at = bytes.indexOf('ispe', at + 4)) {
      bytes.writeUInt32BE(20_000, at + 8)
      bytes.writeUInt32BE(15_000, at + 12)
    }
    await expect(preprocess(bytes, { size: 8 }, 1e6)).rejects.toMatchObject({
      code: 'image_too_large',
      message: expect.stringContaining('20000 × 15000 pixels') as string,
    })
  })

  it('that is cut off is damaged', async () => {
    const bytes = fixture('quarters')
    for (const length of [40, 300, bytes.length - 200]) {
      await expect(preprocess(bytes.subarray(0, length), { size: 8 }, 1e6)).rejects.toMatchObject({
        code: 'image_unreadable',
      })
    }
  })

  it('that is not decoded in time is timed out', async () => {
    await expect(
      preprocess(fixture('quarters'), { size: 8 }, 1e6, true, 0.001),
    ).rejects.toMatchObject({ code: 'timed_out' })
  })
})

describe('without the decoder', () => {
  afterEach(() => vi.restoreAllMocks())

  it('HEIC is refused as a type that is not read, with the way to read it', async () => {
    const internals = Module as unknown as { _resolveFilename: (name: string) => string }
    vi.spyOn(internals, '_resolveFilename').mockImplementation((name) => {
      throw new Error(`Cannot find module '${name}'`)
    })
    const refused = preprocess(fixture('quarters'), { size: 8 }, 1e6)
    await expect(refused).rejects.toMatchObject({ code: 'image_type_unsupported' })
    await expect(refused).rejects.toThrow(
      /^HEIC images are not read here\. Install libheif-js .* or convert them to JPEG first/,
    )
  })
})
