import { Value } from 'typebox/value'
import { describe, expect, it } from 'vitest'
import { idOfFile, idOfPath } from '../../../src/cli/indexing/file-ids.js'
import { Id } from '../../../src/http/schemas/fields.js'

describe('idOfFile', () => {
  it('begins with the name of the root, and differs for two roots of one name', () => {
    const [one, two] = [idOfFile('/x/photos', 'a.jpg'), idOfFile('/y/photos', 'a.jpg')]
    expect(one).toMatch(/^photos~[0-9a-f]{6}\/a\.jpg$/)
    expect(two).not.toBe(one)
    expect(idOfFile('/x/photos', 'a.jpg')).toBe(one)
  })

  it('is valid for the root of the file system and for long paths', () => {
    for (const id of [idOfFile('/', 'a.jpg'), idOfFile('/x', `${'long/'.repeat(100)}a.jpg`)])
      expect(Value.Check(Id, id)).toBe(true)
  })
})

describe('idOfPath', () => {
  it.each(['a.jpg', 'über/ß 狗.jpg', "it's (1) #2 & 100%.png"])('keeps %j', (path) => {
    expect(idOfPath(path)).toBe(path)
  })

  it.each([' space.jpg', 'tab\there.jpg', `${'long/'.repeat(100)}a.jpg`, 'line\u2028sep.jpg'])(
    'turns %j into a valid id',
    (path) => {
      expect(Value.Check(Id, path)).toBe(false)
      expect(Value.Check(Id, idOfPath(path))).toBe(true)
    },
  )

  it('gives different ids to paths that are changed alike', () => {
    expect(idOfPath('a\tb.jpg')).not.toBe(idOfPath('a\nb.jpg'))
  })
})
