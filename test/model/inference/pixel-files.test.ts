import { readFile, stat, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { describe, expect, it } from 'vitest'
import { leavePixels, Passage, takePixels } from '../../../src/model/inference/pixel-files.js'

describe('the way of pixels', () => {
  it('is a new file for each image, which is gone when it is freed', async () => {
    const passage = await Passage.open()
    const write = (text: string) =>
      passage.through(async (into) => {
        await writeFile(into as string, text, { flag: 'wx' })
        return into as string
      })
    const [first, second] = await Promise.all([write('a'), write('b')])
    expect(await readFile(first, 'utf8')).toBe('a')
    passage.free({ file: first })
    await expect.poll(() => readFile(first).catch(() => 'gone')).toBe('gone')
    expect(await readFile(second, 'utf8')).toBe('b')
    await passage.close()
    await expect(readFile(second)).rejects.toThrow('ENOENT')
    await expect(readFile(dirname(second))).rejects.toThrow('ENOENT')
  })

  it('leaves nothing of an image that cannot be decoded', async () => {
    const passage = await Passage.open()
    let file = ''
    const failing = passage.through(async (into) => {
      file = into as string
      await writeFile(file, 'half')
      throw new Error('damaged')
    })
    await expect(failing).rejects.toThrow('damaged')
    await expect.poll(() => readFile(file).catch(() => 'gone')).toBe('gone')
    await passage.close()
  })

  it('hands on what was left, once, to nobody but the service', async () => {
    const passage = await Passage.open()
    const pixels = Uint8Array.from({ length: 12 }, (_, at) => at)
    const left = await passage.through((into) =>
      Promise.resolve(leavePixels(pixels, into as string)),
    )
    const { file } = left as { file: string }
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    const batch = new Uint8Array(36)
    takePixels(file, batch.subarray(12, 24))
    expect([...batch]).toEqual([...new Uint8Array(12), ...pixels, ...new Uint8Array(12)])
    expect(() => takePixels(file, batch)).toThrow('ENOENT')
    await passage.close()
  })

  it('leaves pixels where they are when there is no room for a file, and refuses files that are cut off', async () => {
    const passage = await Passage.open()
    const pixels = new Uint8Array(12)
    expect(leavePixels(pixels, '/nowhere/at/all')).toBe(pixels)
    const taken = await passage.through((into) => Promise.resolve(into as string))
    leavePixels(pixels, taken)
    expect(() => takePixels(taken, new Uint8Array(13))).toThrow(`${taken} is cut off`)
    await passage.close()
  })
})
