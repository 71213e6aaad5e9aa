/** The tandem command against the real service with the tiny bundle. */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  createWriteStream,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { pathToFileURL } from 'node:url'
import { pack } from 'tar-stream'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { packageFolder } from '../../src/config.js'

vi.setConfig({ testTimeout: 180_000 })

const photos = ['nagasaki-boats', 'march-pastoral', 'black-canyon']
// From source, including worker processes.
const loader = pathToFileURL(join(packageFolder, 'test', 'support', 'run-source.mjs')).href
let folder: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tandem-test-'))
  mkdirSync(join(folder, 'photos', 'old'), { recursive: true })
  for (const name of photos) {
    const source = join(
      packageFolder,
      'node_modules',
      '@stdlib',
      `datasets-img-${name}`,
      'data',
      'image.jpg',
    )
    copyFileSync(source, join(folder, 'photos', 'old', `${name}.jpg`))
  }
})
afterAll(() => rmSync(folder, { recursive: true }))

function tandem(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(
    process.execPath,
    ['--import', loader, join(packageFolder, 'src', 'cli.ts'), ...args],
    {
      encoding: 'utf8',
      cwd: packageFolder,
      env: {
        PATH: process.env['PATH'],
        TANDEM_DATA_DIR: join(folder, 'data'),
        TANDEM_MODEL: join(packageFolder, 'test', 'fixtures', 'tiny-bundle'),
        PORT: '0',
        INFERENCE_THREADS: '1',
      },
    },
  )
}

describe('the tandem command', () => {
  it('indexes a folder, finds its images, and skips them the next time', () => {
    const first = tandem('index', join(folder, 'photos'))
    expect(first).toMatchObject({ status: 0, stdout: '3 added, 0 already stored\n' })

    const found = tandem('search', 'boats on the water', '-k', '2', '--json')
    expect(found.status).toBe(0)
    const { hits } = JSON.parse(found.stdout) as { hits: { id: string; match: number | null }[] }
    expect(hits).toHaveLength(2)
    for (const { id, match } of hits) {
      expect(photos.map((name) => `old/${name}.jpg`)).toContain(id.replace(/^photos~\w{6}\//, ''))
      expect(match).toBeGreaterThanOrEqual(0)
    }
    expect(tandem('search', 'boats', '--no-rerank').stdout).not.toContain('match')
    const wanted = `old/${photos[1]}.jpg`
    const filter = JSON.stringify({ must: [{ key: 'path', match: wanted }] })
    expect(tandem('search', 'boats', '--filter', filter).stdout).toContain(
      `  ${join(folder, 'photos', wanted)}\n1 hit in`,
    )
    expect(tandem('search', 'boats', '--filter', '{').stderr).toContain('filter is not valid JSON')

    expect(tandem('index', join(folder, 'photos')).stdout).toBe('0 added, 3 already stored\n')
  })

  it('check exits with 1 for a damaged store and with 0 once it is repaired', () => {
    const [fingerprint = ''] = readdirSync(join(folder, 'data', 'index'))
    const sidecar = join(folder, 'data', 'index', fingerprint, 'hnsw.json')
    const { ids, ...rest } = JSON.parse(readFileSync(sidecar, 'utf8')) as { ids: string[] }
    writeFileSync(sidecar, JSON.stringify({ ...rest, ids: ids.reverse() }))
    expect(tandem('check')).toMatchObject({
      status: 1,
      stdout: expect.stringMatching(/^3 items;[^]*\nnot sound\n$/) as string,
    })
    expect(tandem('check', '--repair')).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/\nsound\n$/) as string,
    })
  })

  it('a search has the same answer after backup and restore', () => {
    const search = (): unknown =>
      (JSON.parse(tandem('search', 'boats', '--json').stdout) as { hits: unknown }).hits
    const before = search()
    expect(tandem('backup', 'first')).toMatchObject({
      status: 0,
      stdout: '3 items backed up as first\n',
    })
    expect(tandem('backup', 'first')).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/already/) as string,
    })
    mkdirSync(join(folder, 'more'))
    copyFileSync(
      join(folder, 'photos', 'old', 'black-canyon.jpg'),
      join(folder, 'more', 'extra.jpg'),
    )
    expect(tandem('index', join(folder, 'more')).status).toBe(0)
    expect(search()).not.toEqual(before)
    const restored = 'first is restored: 0 items stored, 1 removed, 3 unchanged\n'
    expect(tandem('restore', 'first')).toMatchObject({ status: 0, stdout: restored })
    expect(search()).toEqual(before)
    expect(tandem('restore', 'second')).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/no backup "second"/) as string,
    })
  }, 240_000)

  it('index names the files that are not images, goes on, and exits with 1', () => {
    writeFileSync(join(folder, 'photos', 'notes.jpg'), 'no image')
    const { status, stdout, stderr } = tandem('index', join(folder, 'photos'))
    expect(stdout).toBe('0 added, 3 already stored, 1 not added\n')
    expect(stderr).toMatch(/not added: notes\.jpg: .*image/)
    expect(status).toBe(1)
  })

  it('models lists the bundles and exits with 1 if one is broken', () => {
    mkdirSync(join(folder, 'bundles', 'broken'), { recursive: true })
    const fixtures = tandem('models', join(packageFolder, 'test', 'fixtures'))
    expect(fixtures.stdout).toMatch(/^\* tiny .*verified$/m)
    expect(tandem('models', join(folder, 'bundles'))).toMatchObject({
      status: 1,
      stdout: expect.stringContaining('broken') as string,
    })
  })

  it.each([
    [['search', 'x', '-k', '0'], /whole number from 1 to 1000/],
    [['search', 'x', '--url', 'ftp://host'], /Expected an address/],
    [
      ['search', 'x', '--url', 'http://127.0.0.1:9'],
      /No service answers at http:\/\/127\.0\.0\.1:9/,
    ],
    [['index', join('no', 'such', 'folder')], /no such file or directory/],
    [['evaluate', 'none.tar'], /no such file or directory/],
    [['nonsense'], /unknown command/],
  ])(
    'refuses %j with a message and no stack trace',
    (args, message) => {
      const { status, stderr } = tandem(...args)
      expect(stderr).toMatch(message)
      expect(stderr).not.toMatch(/^ +at /m)
      expect(status).toBe(1)
    },
    180_000,
  )

  it('evaluate measures recall over HTTP and leaves no temporary folder', async () => {
    const tar = pack()
    for (const name of photos) {
      tar.entry({ name: `${name}.jpg` }, readFileSync(join(folder, 'photos', 'old', `${name}.jpg`)))
      tar.entry(
        { name: `${name}.json` },
        JSON.stringify({ captions: { en: [`a photo of ${name}`, name] } }),
      )
    }
    tar.finalize()
    await pipeline(tar, createWriteStream(join(folder, 'shard.tar')))
    const folders = (): string[] =>
      readdirSync(tmpdir()).filter((name) => name.startsWith('tandem-evaluate-'))
    const before = folders()
    const { status, stdout } = tandem(
      'evaluate',
      join(folder, 'shard.tar'),
      '--json',
      '--candidates',
      '10',
    )
    expect(status).toBe(0)
    const result = JSON.parse(stdout) as Record<string, Record<string, unknown>>
    expect(result).toMatchObject({ bundle: 'tiny', images: 3, captions: 6, candidates: 10 })
    // With three images, the first ten ranks contain the right one for any weights.
    for (const direction of ['text_to_image', 'image_to_text']) {
      for (const by of ['similarity', 'rerank'])
        expect(result[direction]?.[by]).toMatchObject({ r5: 100, r10: 100 })
    }
    expect(folders()).toEqual(before)
  })

  it('key prints the line for the file on standard output and the key on standard error', () => {
    const { status, stdout, stderr } = tandem('key', 'phone', '--scope', 'read', 'write')
    expect(status).toBe(0)
    expect(stdout).toMatch(/^phone read,write sha256:[0-9a-f]{64}\n$/)
    const key = /tandem_[\w-]{43}/.exec(stderr)?.[0] ?? ''
    expect(stdout).toContain(createHash('sha256').update(key).digest('hex'))

    for (const wrong of [
      ['key', 'phone'],
      ['key', 'phone', '--scope', 'all'],
      ['key', 'a b', '--scope', 'read'],
    ]) {
      expect(tandem(...wrong), wrong.join(' ')).toMatchObject({ status: 1, stdout: '' })
    }
  })
})
