/** Backups over HTTP with word models, and the items after a restore. */
import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { InjectOptions } from 'fastify'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { buildApp, type Tandem } from '../../../src/http/app.js'
import { openBackups } from '../../../src/backup/backup-folder.js'
import type { Backups } from '../../../src/backup/backups.js'
import { BackupJobs, type FinishedJob } from '../../../src/backup/jobs.js'
import type { Maintenance } from '../../../src/collection/collection.js'
import { EmbeddedCollection } from '../../../src/collection/embedded/embedded.js'
import { readConfig } from '../../../src/config.js'
import { openItemStore } from '../../../src/item-store/open.js'
import type { BackupsReply } from '../../../src/http/schemas/backups.js'
import { smallDisk } from '../../support/small-disk.js'
import { MemoryIndex } from '../../support/memory-index.js'
import { emptyCatalog, type TestService, startTestService } from '../../support/test-service.js'
import { WordModels } from '../../support/word-models.js'

vi.setConfig({ testTimeout: 60_000 })

let backupFolder: string
let tandem: TestService

beforeEach(async () => {
  backupFolder = await mkdtemp(join(tmpdir(), 'tandem-backups-'))
  tandem = await startTestService({ backupFolder })
})
afterEach(async () => {
  await tandem.end()
  await rm(backupFolder, { recursive: true, force: true })
})

async function add({ app }: Tandem, id: string, word: string): Promise<void> {
  const body = { image: Buffer.from(word).toString('base64'), payload: { word } }
  const { statusCode } = await app.inject({ method: 'PUT', url: `/items/${id}`, payload: body })
  expect([200, 201]).toContain(statusCode)
}

const list = async ({ app }: Tandem): Promise<BackupsReply> => (await app.inject('/backups')).json()
const post = ({ app }: Tandem, url: string) => app.inject({ method: 'POST', url })

/** Starts the job of `url`, waits for its end, returns its outcome. */
async function ended(of: Tandem, url: string): Promise<NonNullable<BackupsReply['last']>> {
  const begun = await post(of, url)
  expect(begun.statusCode, begun.body).toBe(202)
  await expect.poll(async () => (await list(of)).running).toBeNull()
  const { last } = await list(of)
  const { action, name, started_at } = begun.json<{
    action: string
    name: string
    started_at: string
  }>()
  expect(last).toMatchObject({ action, name, started_at })
  return last as NonNullable<BackupsReply['last']>
}

/** All that clients can see: the items, and the searches by every word and item. */
async function everything({ app }: Tandem): Promise<unknown[]> {
  const { items } = (await app.inject('/items?limit=1000')).json<{ items: { id: string }[] }>()
  const words = ['dog', 'cat 3', 'horse on a beach', 'red dog 9']
  const urls = words.flatMap((word) =>
    ['true', 'false'].map((rerank) => `/search?k=100&candidates=100&rerank=${rerank}&q=${word}`),
  )
  const answers: unknown[] = [items]
  const ask = async (request: InjectOptions): Promise<void> => {
    const { statusCode, body } = await app.inject(request)
    expect(statusCode).toBe(200)
    answers.push(body.startsWith('{') ? (JSON.parse(body) as { hits: unknown }).hits : body)
  }
  for (const url of urls) await ask({ url })
  for (const { id } of items) {
    await ask({ method: 'POST', url: '/search', payload: { id, k: 100 } })
    await ask({ url: `/items/${id}/image` })
  }
  return answers
}

async function addSome(): Promise<void> {
  for (let at = 0; at < 150; at += 1)
    await add(tandem, `item-${at}`, `${['dog', 'cat', 'red horse'][at % 3]} ${at % 11}`)
}

describe('backups', () => {
  it('a backup restored into the same service gives the same answers', async () => {
    await addSome()
    const before = await everything(tandem)
    const made = await ended(tandem, '/backups?name=first')
    expect(made).toMatchObject({ action: 'backup', name: 'first', failure: null, restored: null })

    for (let at = 0; at < 100; at += 1) await add(tandem, `item-${at}`, `other ${at}`)
    for (let at = 100; at < 120; at += 1)
      await tandem.app.inject({ method: 'DELETE', url: `/items/item-${at}` })
    await add(tandem, 'extra', 'dog')
    expect(await everything(tandem)).not.toEqual(before)

    const { failure, restored } = await ended(tandem, '/backups/first/restore')
    expect(failure).toBeNull()
    expect(restored).toEqual({ stored: 120, removed: 1, unchanged: 30 })
    expect(await everything(tandem)).toEqual(before)
    // A second restore has nothing to do.
    expect((await ended(tandem, '/backups/first/restore')).restored).toEqual({
      stored: 0,
      removed: 0,
      unchanged: 150,
    })
  })

  it('a restore keeps what is written while the backup is verified', async () => {
    await add(tandem, 'changed', 'dog')
    await add(tandem, 'removed', 'dog')
    await ended(tandem, '/backups?name=before')
    const maintenance = tandem.retrieval.maintenance as Maintenance
    const backups = openBackups(backupFolder, maintenance.storage.identity)
    let verify = (): void => undefined
    const gate = new Promise<void>((resolve) => (verify = resolve))
    const slow: Backups = {
      ...backups,
      find: (name) => backups.find(name),
      verified: (name, signal) => gate.then(() => backups.verified(name, signal)),
    }
    const jobs = new BackupJobs(slow, maintenance, tandem.app.log)
    const end = new Promise<FinishedJob>((resolve) => void jobs.restore('before', resolve))
    await expect.poll(() => jobs.state.running).not.toBeNull()
    await add(tandem, 'changed', 'cat')
    await add(tandem, 'new', 'cat')
    await tandem.app.inject({ method: 'DELETE', url: '/items/removed' })
    verify()
    expect((await end).failure).toBeNull()
    expect((await tandem.app.inject('/items/changed/image')).body).toBe('cat')
    expect((await tandem.app.inject('/items/new')).statusCode).toBe(200)
    expect((await tandem.app.inject('/items/removed')).statusCode).toBe(404)
  })

  it('a backup restored into another service gives the same answers there', async () => {
    await addSome()
    await ended(tandem, '/backups?name=moved')
    const other = await startTestService({ backupFolder })
    try {
      await add(other, 'was-there', 'dog')
      expect((await ended(other, '/backups/moved/restore')).restored).toEqual({
        stored: 150,
        removed: 1,
        unchanged: 0,
      })
      expect(await everything(other)).toEqual(await everything(tandem))
    } finally {
      await other.end()
    }
  })

  it('a backup of another bundle is restored by encoding its images', async () => {
    await add(tandem, 'a', 'dog 4')
    await ended(tandem, '/backups?name=old-bundle')
    const dataFolder = await mkdtemp(join(tmpdir(), 'tandem-'))
    const config = { ...readConfig({}), logLevel: 'silent' as const, dataFolder, backupFolder }
    const fingerprint = 'fedcba9876543210'
    const models = Object.assign(new WordModels(), {
      info: { ...tandem.retrieval.model, fingerprint },
    })
    const other = await buildApp(config, {
      open: async () => {
        const store = await openItemStore({ folder: dataFolder, fingerprint })
        return new EmbeddedCollection({ models, index: new MemoryIndex(), store }, emptyCatalog)
      },
    })
    try {
      await other.start()
      let encoded = 0
      models.gate = () => Promise.resolve(void (encoded += 1))
      expect((await ended(other, '/backups/old-bundle/restore')).restored).toMatchObject({
        stored: 1,
      })
      expect(encoded).toBe(1)
      expect(await everything(other)).toEqual(await everything(tandem))
    } finally {
      await other.close()
      await rm(dataFolder, { recursive: true })
    }
  })

  it('of several clients that remove a backup at once, one succeeds and the others get 404', async () => {
    await add(tandem, 'a', 'dog')
    for (const round of [1, 2, 3]) {
      await ended(tandem, '/backups?name=first')
      const removals = Array.from({ length: 8 }, () =>
        tandem.app.inject({ method: 'DELETE', url: '/backups/first' }),
      )
      const statuses = (await Promise.all(removals)).map(({ statusCode }) => statusCode)
      expect(statuses.sort(), `round ${round}`).toEqual([204, 404, 404, 404, 404, 404, 404, 404])
      expect(await readdir(backupFolder)).toEqual([])
    }
  })

  it('backups are listed newest first with their contents, and can be removed', async () => {
    expect(await list(tandem)).toEqual({ backups: [], running: null, last: null })
    await add(tandem, 'a', 'dog')
    await ended(tandem, '/backups?name=first')
    await add(tandem, 'b', 'dog')
    const { name } = await ended(tandem, '/backups')
    expect(name).toMatch(/^\d{8}T\d{6}Z$/)
    const { backups } = await list(tandem)
    expect(backups).toMatchObject([
      { name, items: 2, position: 2 },
      { name: 'first', items: 1, position: 1, fingerprint: '0123456789abcdef' },
    ])
    expect(await readdir(backupFolder)).toEqual([name, 'first'].sort())
    expect((await tandem.app.inject({ method: 'DELETE', url: '/backups/first' })).statusCode).toBe(
      204,
    )
    expect(
      (await tandem.app.inject({ method: 'DELETE', url: '/backups/first' })).json(),
    ).toMatchObject({ code: 'backup_not_found' })
    expect(await readdir(backupFolder)).toEqual([name])
  })
})

describe('restores', () => {
  it('a restore keeps changes that clients make meanwhile', async () => {
    for (const id of ['kept', 'replaced', 'removed', 'z-later']) await add(tandem, id, 'dog')
    await ended(tandem, '/backups?name=first')
    for (const id of ['kept', 'replaced', 'removed', 'z-later']) await add(tandem, id, 'cat')
    await add(tandem, 'extra', 'cat')

    // The restore waits behind a write that the index holds up; clients write after its start.
    let release = (): void => undefined
    const held = new Promise<void>((done) => (release = done))
    tandem.index.gate = () => held
    const first = add(tandem, 'extra', 'cat 2')
    const restore = ended(tandem, '/backups/first/restore')
    await expect.poll(async () => (await list(tandem)).running?.progress).not.toBeNull()
    const writes = [
      add(tandem, 'replaced', 'horse'),
      add(tandem, 'new', 'horse'),
      tandem.app.inject({ method: 'DELETE', url: '/items/removed' }),
    ]
    release()
    await Promise.all([first, ...writes])
    expect((await restore).failure).toBeNull()

    const { items } = (await tandem.app.inject('/items')).json<{
      items: { id: string; payload: { word: string } }[]
    }>()
    const words = Object.fromEntries(items.map(({ id, payload }) => [id, payload.word]))
    expect(words).toMatchObject({ kept: 'dog', replaced: 'horse', new: 'horse', 'z-later': 'dog' })
    expect(words).not.toHaveProperty('removed')
    expect([...tandem.index.ids()].sort()).toEqual(items.map(({ id }) => id).sort())
  })

  it('a restore that failed half-way continues when it is repeated', async () => {
    await addSome()
    await ended(tandem, '/backups?name=first')
    const before = await everything(tandem)
    for (let at = 0; at < 150; at += 1) await add(tandem, `item-${at}`, 'other')
    let groups = 0
    tandem.index.gate = () =>
      (groups += 1) === 2 ? Promise.reject(new Error('worker gone')) : Promise.resolve()
    expect((await ended(tandem, '/backups/first/restore')).failure).toMatchObject({
      code: 'internal_error',
    })
    tandem.index.gate = () => Promise.resolve()
    const { restored } = await ended(tandem, '/backups/first/restore')
    expect(restored?.unchanged).toBeGreaterThan(0)
    expect(restored?.stored).toBeGreaterThan(0)
    expect(await everything(tandem)).toEqual(before)
  })

  it.each([
    [
      'a restore refuses an embedding that no bundle made and changes nothing',
      3,
      { code: 'backup_unusable', detail: expect.stringMatching(/"a" has the length 3/) as string },
    ],
    ['takes one that is as long as a collection takes it', 1.004, null],
  ])('%s', async (_does, length, expected) => {
    await add(tandem, 'a', 'dog')
    const { embedding, image, ...item } = await tandem.retrieval.get('a')
    const { fingerprint } = tandem.retrieval.model
    const dataFolder = await mkdtemp(join(tmpdir(), 'tandem-'))
    const config = { ...readConfig({}), logLevel: 'silent' as const, dataFolder, backupFolder }
    const other = await buildApp(config, {
      open: async () => {
        const store = await openItemStore({ folder: dataFolder, fingerprint })
        const bytes = await tandem.retrieval.image('a')
        await store.put([
          {
            ...item,
            embedding: embedding.map((value) => length * value),
            image: { ...image, bytes },
          },
        ])
        return new EmbeddedCollection(
          { models: new WordModels(), index: new MemoryIndex(), store },
          emptyCatalog,
        )
      },
    })
    try {
      await other.start()
      await ended(other, '/backups?name=long')
      const before = await everything(tandem)
      const { failure } = await ended(tandem, '/backups/long/restore')
      if (expected !== null) {
        expect(failure).toMatchObject(expected)
        expect(await everything(tandem)).toEqual(before)
      } else {
        expect(failure).toBeNull()
        expect(await everything(tandem)).not.toEqual(before)
      }
    } finally {
      await other.close()
      await rm(dataFolder, { recursive: true })
    }
  })

  it('a restore refuses a damaged backup and changes nothing', async () => {
    await add(tandem, 'a', 'dog')
    for (const name of [
      ...['cut', 'changed', 'gone', 'strange', 'no-json', 'leads-out'],
      ...['no-count', 'flipped', 'link', 'noise', 'unsound'],
    ])
      await ended(tandem, `/backups?name=${name}`)
    const data = (name: string): string => join(backupFolder, name, 'items', 'data.mdb')
    const manifest = (name: string): string => join(backupFolder, name, 'manifest.json')
    await truncate(data('cut'), 4096)
    const bytes = await readFile(data('changed'))
    bytes[5000] = (bytes[5000] ?? 0) ^ 1
    await writeFile(data('changed'), bytes)
    await rm(data('gone'))
    const text = await readFile(manifest('strange'), 'utf8')
    await writeFile(manifest('strange'), text.replace('"format": 1', '"format": 99'))
    await writeFile(manifest('no-json'), '{')
    // Earlier versions wrote no digest of the manifest.
    const earlier = text.replace(/,\s*"digest": "\w+"/, '')
    await writeFile(manifest('leads-out'), earlier.replace('data.mdb', '../../../data.mdb'))
    await writeFile(manifest('no-count'), earlier.replace(/"items": \d+/, '"items": "abc"'))
    await writeFile(manifest('flipped'), text.replace(/"position": \d+/, '"position": 4'))
    await rm(data('link'))
    await symlink('/etc/hostname', data('link'))
    // Files that fit their manifest, and are no store.
    const noise = randomBytes(100_000)
    const cut = (await readFile(data('unsound'))).subarray(0, 20_480)
    for (const [name, content] of [
      ['noise', noise],
      ['unsound', cut],
    ] as const) {
      await writeFile(data(name), content)
      const sha256 = createHash('sha256').update(content).digest('hex')
      const fitting = earlier
        .replace(/"bytes": \d+/, `"bytes": ${content.length}`)
        .replace(/"sha256": "\w+"/, `"sha256": "${sha256}"`)
      await writeFile(manifest(name), fitting)
    }
    await add(tandem, 'a', 'cat')
    const before = await everything(tandem)

    for (const [name, sentence] of Object.entries({
      cut: /damaged/,
      changed: /damaged/,
      gone: /cannot be read/,
      link: /not a file/,
      noise: /is damaged: its first page is not that of a store/,
      unsound: /is damaged: .*20480 bytes/,
    })) {
      const { failure } = await ended(tandem, `/backups/${name}/restore`)
      expect(failure).toMatchObject({
        code: 'backup_unusable',
        detail: expect.stringMatching(sentence) as string,
      })
    }
    const listed = (await tandem.app.inject('/backups')).json<{ backups: { name: string }[] }>()
    const names = listed.backups.map(({ name }) => name)
    expect(names).toContain('cut')
    for (const name of ['strange', 'no-json', 'leads-out', 'no-count', 'flipped']) {
      expect(names).not.toContain(name)
      const answer = await post(tandem, `/backups/${name}/restore`)
      expect([answer.statusCode, answer.json()]).toMatchObject([422, { code: 'backup_unusable' }])
    }
    expect(await everything(tandem)).toEqual(before)
  })
})

describe('refused backup calls', () => {
  it.each(['..', '.hidden', 'a/b', '%2e%2e%2fetc', 'a b', 'x'.repeat(101), ''])(
    'a backup cannot have the name "%s"',
    async (name) => {
      const answer = await post(tandem, `/backups?${new URLSearchParams({ name }).toString()}`)
      expect([answer.statusCode, answer.json()]).toMatchObject([422, { code: 'invalid_request' }])
      for (const url of [`/backups/${encodeURIComponent(name)}/restore`]) {
        expect([404, 422]).toContain((await post(tandem, url)).statusCode)
      }
      expect(await readdir(backupFolder)).toEqual([])
    },
  )

  it('a taken name, an unknown name and a second job at a time are refused', async () => {
    await add(tandem, 'a', 'dog')
    await ended(tandem, '/backups?name=first')
    expect((await post(tandem, '/backups?name=first')).json()).toMatchObject({
      status: 409,
      code: 'backup_exists',
    })
    expect((await post(tandem, '/backups/second/restore')).json()).toMatchObject({
      status: 404,
      code: 'backup_not_found',
    })
    const both = await Promise.all([
      post(tandem, '/backups?name=b1'),
      post(tandem, '/backups?name=b2'),
    ])
    expect(both.map(({ statusCode }) => statusCode).sort()).toEqual([202, 409])
    expect(both.find(({ statusCode }) => statusCode === 409)?.json()).toMatchObject({
      code: 'backup_busy',
    })
    await expect.poll(async () => (await list(tandem)).running).toBeNull()
  })

  it('backup calls need a key with the scope admin', async () => {
    const keyed = await startTestService({ backupFolder, apiKeys: ['all-may-do-this'] })
    try {
      for (const [method, url] of [
        ['GET', '/backups'],
        ['POST', '/backups'],
        ['POST', '/backups/a/restore'],
        ['DELETE', '/backups/a'],
      ] as const) {
        expect((await keyed.app.inject({ method, url })).statusCode).toBe(401)
      }
    } finally {
      await keyed.end()
    }
  })
})

describe('a full backup disk', () => {
  it('a backup without disk space is refused, leaves nothing, and succeeds once there is space', async (context) => {
    const disk = await smallDisk(4)
    if (disk === null) return context.skip('this process may not mount a disk')
    const small = await startTestService({ backupFolder: join(disk.folder, 'backups') })
    try {
      for (let at = 0; at < 20; at += 1) await add(small, `item-${at}`, `dog ${at}`)
      disk.fill(8192)
      const answer = await post(small, '/backups?name=first')
      expect([answer.statusCode, answer.json()]).toMatchObject([507, { code: 'storage_full' }])
      expect(await readdir(join(disk.folder, 'backups'))).toEqual([])
      disk.freeSpace()
      expect((await ended(small, '/backups?name=first')).failure).toBeNull()
    } finally {
      await small.end()
      await disk.end()
    }
  })
})
