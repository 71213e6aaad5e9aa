import { describe, expect, it } from 'vitest'
import { InputReader } from '../../../src/http/wire/inputs.js'

const reader = new InputReader({
  limits: { maxTextChars: 10, maxBatchItems: 1, maxBodyBytes: 1000 },
  fetchImage: () => Promise.reject(new Error('no image is fetched')),
})

describe('a text', () => {
  it.each(['x', '😀', 'e\u0301', '\ud83d', '\ude00\ud83d', '😀\ud83d'])(
    'of %j is limited by its Unicode characters',
    (unit) => {
      const most = Math.floor(10 / [...unit].length)
      const text = unit.repeat(most)
      expect(reader.text(text, 'q')).toBe(text)
      const length = [...`${text}${unit.repeat(10)}`].length
      expect(() => reader.text(text + unit.repeat(10), 'q')).toThrow(
        `q has ${length} characters; expected at most 10.`,
      )
    },
  )

  it('of five million emoji takes little time', () => {
    const text = '😀'.repeat(5_000_000)
    const begun = process.cpuUsage()
    expect(() => reader.text(text, 'q')).toThrow('q has 5000000 characters')
    expect(process.cpuUsage(begun).user).toBeLessThan(300_000)
  })
})

describe('an image', () => {
  it.each([
    'data:image/jpeg;base64,aGk=',
    'DATA:;BASE64,aGk=',
    'data:image/jpeg;name=a;charset=b;base64,aGk=',
    'aGk=',
  ])('is read from %s', async (value) => {
    expect(Buffer.from(await reader.image(value, 'image')).toString()).toBe('hi')
  })

  it.each([
    'data:image/jpeg,aGk=',
    'data:base64,aGk=',
    'data:,aGk=',
    'data:;base64;a,aGk=',
    `data:${';'.repeat(20_000_000)},AAAA`,
    `data:${';a'.repeat(10_000_000)},AAAA`,
  ])('that is a data-URI without base64 is refused', async (value) => {
    await expect(reader.image(value, 'image')).rejects.toMatchObject({
      code: 'invalid_request',
      message: 'image is a data-URI that is not base64; expected data:image/jpeg;base64,…',
    })
  })

  it.each([`data:${';'.repeat(20_000_000)}`, `${'A'.repeat(20_000_000)}!`, 'data:'])(
    'that is no base64 is refused',
    async (value) => {
      await expect(reader.image(value, 'image')).rejects.toMatchObject({
        code: 'invalid_request',
        message: expect.stringContaining('image is not valid base64') as string,
      })
    },
  )

  it.each([
    'aGk*a',
    'aGk*a=',
    'a*Gk',
    'aG=k',
    'aGk===',
    '=',
    'aGk=\n=\n=',
    'aG\u0101k',
    'aGkx\u0141',
  ])('is refused as %j, whose length is that of base64', async (value) => {
    await expect(reader.image(value, 'image')).rejects.toMatchObject({ code: 'invalid_request' })
  })

  it.each(['aGk', 'aGk=', 'aGk=\n', ' a Gk ='])('is read from %j', async (value) => {
    expect(Buffer.from(await reader.image(value, 'image')).toString()).toBe('hi')
  })

  it('of a long list of parameters is read', async () => {
    const value = `data:${';a'.repeat(10_000_000)};base64,aGk=`
    expect(Buffer.from(await reader.image(value, 'image')).toString()).toBe('hi')
  })
})
