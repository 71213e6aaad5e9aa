import { readFile, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { describe, expect, it } from 'vitest'
import { Passage } from '../../src/model/passage.js'

describe('the way of pixels', () => {
  it('is a new file for each picture, which is gone when it is freed', async () => {
    const passage = await Passage.open()
    const write = (text: string) => passage.through(async (into) => {
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

  it('leaves nothing of a picture that cannot be decoded', async () => {
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
})
