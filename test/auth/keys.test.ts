import { createHash } from 'node:crypto'
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { newKey, openKeys, type Keys, type KeysChange } from '../../src/auth/keys.js'
import { grants } from '../../src/auth/key.js'

let folder: string
let file: string
let changes: KeysChange[]
const opened: Keys[] = []

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-'))
  file = join(folder, 'keys')
  changes = []
})
afterEach(async () => {
  for (const keys of opened.splice(0)) keys.close()
  await rm(folder, { recursive: true, force: true })
})

async function open(environmentKeys: readonly string[] = []): Promise<Keys> {
  const keys = await openKeys({
    keys: environmentKeys,
    file,
    onChange: (change) => changes.push(change),
    pollMs: 20,
  })
  opened.push(keys)
  return keys
}

const errorsOf = (): string =>
  changes.map((change) => ('error' in change ? change.error.message : '')).join('')

describe('scopes', () => {
  it.each([
    ['read', ['read']],
    ['write', ['read', 'write']],
    ['admin', ['read', 'write', 'admin']],
  ] as const)('%s grants %j', (scope, granted) => {
    const all = ['read', 'write', 'admin'] as const
    expect(all.filter((needed) => grants([scope], needed))).toEqual(granted)
  })

  it('grant nothing when there are none, and as much as the highest of several', () => {
    expect(grants([], 'read')).toBe(false)
    expect(grants(['read', 'admin'], 'write')).toBe(true)
  })
})

describe('a new key', () => {
  it('is unique and found by its line, which does not contain it', async () => {
    const [phone, importer] = [newKey('phone', ['read']), newKey('importer', ['read', 'write'])]
    expect(phone.key).not.toBe(importer.key)
    expect(phone.line).not.toContain(phone.key.slice('tandem_'.length))
    await writeFile(file, `# clients\n\n${phone.line}  # a comment\r\n${importer.line}\n`)
    const keys = await open()
    expect(keys.find(phone.key)).toMatchObject({ name: 'phone', scopes: ['read'] })
    expect(keys.find(importer.key)).toMatchObject({ name: 'importer', scopes: ['read', 'write'] })
    for (const wrong of ['', phone.key.slice(1), `${phone.key} `, phone.line])
      expect(keys.find(wrong)).toBeUndefined()
  })

  it.each(['', 'two words', 'a:b', 'x'.repeat(65), 'line\nbreak'])(
    'cannot have the name %j',
    (name) => {
      expect(() => newKey(name, ['read'])).toThrow(/1 to 64 letters/)
    },
  )
})

describe('keys of the environment', () => {
  it('have all scopes and are valid together with those of the file', async () => {
    const { key, line } = newKey('phone', ['read'])
    await writeFile(file, line)
    const keys = await open(['first-secret', 'second-secret'])
    expect(keys.find('second-secret')).toMatchObject({ name: 'API_KEYS:2', scopes: ['admin'] })
    expect(keys.find(key)?.name).toBe('phone')
  })

  it('are required only if there are any', async () => {
    const without = await openKeys({ keys: [], file: undefined, onChange: () => undefined })
    const withKey = await openKeys({
      keys: ['first-secret'],
      file: undefined,
      onChange: () => undefined,
    })
    expect([without.needed, withKey.needed]).toEqual([false, true])
  })
})

describe('a broken file', () => {
  const digest = createHash('sha256').update('x').digest('hex')
  const other = createHash('sha256').update('y').digest('hex')

  it.each([
    ['a key instead of its digest', 'phone read tandem_hunter2', /line 1: expected a name/],
    ['a short digest', `phone read sha256:${digest.slice(1)}`, /line 1: expected a name/],
    [
      'an unknown scope',
      `# ok\nphone read,delete sha256:${digest}`,
      /line 2: expected scopes out of read, write, admin/,
    ],
    [
      'a name twice',
      `a read sha256:${digest}\na write sha256:${other}`,
      /line 2: another line has the name "a"/,
    ],
    [
      'a digest twice',
      `a read sha256:${digest}\nb admin sha256:${digest}`,
      /line 2: .*same digest/,
    ],
    ['no line at all', '# a comment\n', /holds no key; "tandem key/],
  ])('with %s is refused at the start', async (_what, text, message) => {
    await writeFile(file, text)
    const failure: unknown = await open().catch((error: unknown) => error)
    expect(String(failure)).toMatch(message)
    expect(String(failure)).not.toContain('hunter2')
  })

  it('that does not exist is refused at the start', async () => {
    await expect(open()).rejects.toThrow(/cannot be read \(ENOENT\)/)
  })
})

describe('a change of the file', () => {
  const [oldKey, freshKey] = [newKey('old', ['read']), newKey('fresh', ['write'])]

  it('takes effect after a reload, and a broken file does not change the keys', async () => {
    await writeFile(file, oldKey.line)
    const keys = await open()
    await writeFile(file, freshKey.line)
    await keys.reload()
    expect(changes).toEqual([{ keys: 1 }])
    expect([keys.find(oldKey.key), keys.find(freshKey.key)?.name]).toEqual([undefined, 'fresh'])

    await writeFile(file, `${oldKey.line}\nhalf a li`)
    await keys.reload()
    expect(errorsOf()).toMatch(/line 2/)
    expect([keys.find(oldKey.key), keys.find(freshKey.key)?.name]).toEqual([undefined, 'fresh'])
  })

  it('is noticed without a reload, also after a rename, and a broken file is reported once', async () => {
    await writeFile(file, oldKey.line)
    const keys = await open()
    keys.watch()
    await writeFile(join(folder, 'next'), freshKey.line)
    await rename(join(folder, 'next'), file)
    await expect.poll(() => keys.find(freshKey.key)?.name).toBe('fresh')

    await rm(file)
    await expect.poll(errorsOf).toMatch(/ENOENT/)
    await new Promise((done) => setTimeout(done, 200))
    expect(changes.filter((change) => 'error' in change)).toHaveLength(1)
    expect(keys.find(freshKey.key)?.name).toBe('fresh')
  })

  it('to an empty file makes every key invalid', async () => {
    await writeFile(file, oldKey.line)
    const keys = await open()
    await writeFile(file, '')
    await keys.reload()
    expect(changes).toEqual([{ keys: 0 }])
    expect([keys.needed, keys.find(oldKey.key)]).toEqual([true, undefined])
  })
})
