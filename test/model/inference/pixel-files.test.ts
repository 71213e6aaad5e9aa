import { readFile, stat, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { describe, expect, it } from 'vitest'
import { writePixels, PixelFiles, readPixels } from '../../../src/model/inference/pixel-files.js'

describe('the way of pixels', () => {
  it('is a new file for each image, which is gone when it is freed', async () => {
    const pixelFiles = await PixelFiles.open()
    const write = (text: string) =>
      pixelFiles.withFile(async (into) => {
        await writeFile(into as string, text, { flag: 'wx' })
        return into as string
      })
    const [first, second] = await Promise.all([write('a'), write('b')])
    expect(await readFile(first, 'utf8')).toBe('a')
    pixelFiles.remove({ file: first })
    await expect.poll(() => readFile(first).catch(() => 'gone')).toBe('gone')
    expect(await readFile(second, 'utf8')).toBe('b')
    await pixelFiles.close()
    await expect(readFile(second)).rejects.toThrow('ENOENT')
    await expect(readFile(dirname(second))).rejects.toThrow('ENOENT')
  })

  it('leaves nothing of an image that cannot be decoded', async () => {
    const pixelFiles = await PixelFiles.open()
    let file = ''
    const failing = pixelFiles.withFile(async (into) => {
      file = into as string
      await writeFile(file, 'half')
      throw new Error('damaged')
    })
    await expect(failing).rejects.toThrow('damaged')
    await expect.poll(() => readFile(file).catch(() => 'gone')).toBe('gone')
    await pixelFiles.close()
  })

  it('hands on what was left, once, to nobody but the service', async () => {
    const pixelFiles = await PixelFiles.open()
    const pixels = Uint8Array.from({ length: 12 }, (_, at) => at)
    const left = await pixelFiles.withFile((into) =>
      Promise.resolve(writePixels(pixels, into as string)),
    )
    const { file } = left as { file: string }
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    const batch = new Uint8Array(36)
    readPixels(file, batch.subarray(12, 24))
    expect([...batch]).toEqual([...new Uint8Array(12), ...pixels, ...new Uint8Array(12)])
    expect(() => readPixels(file, batch)).toThrow('ENOENT')
    await pixelFiles.close()
  })

  it('returns the pixels when the file cannot be written, and refuses truncated files', async () => {
    const pixelFiles = await PixelFiles.open()
    const pixels = new Uint8Array(12)
    expect(writePixels(pixels, '/nowhere/at/all')).toBe(pixels)
    const taken = await pixelFiles.withFile((into) => Promise.resolve(into as string))
    writePixels(pixels, taken)
    expect(() => readPixels(taken, new Uint8Array(13))).toThrow(`${taken} is cut off`)
    await pixelFiles.close()
  })
})
