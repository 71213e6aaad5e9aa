/** Calls that a service with an external engine does not support. No Milvus is called. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildApp, type Tandem } from '../../../src/http/app.js'
import { SharedCollection } from '../../../src/collection/milvus/shared.js'
import { readConfig } from '../../../src/config.js'
import type { MilvusItems } from '../../../src/collection/milvus/milvus.js'
import { WordModels } from '../../support/word-models.js'

const UNSUPPORTED = [
  ['POST', '/backups', /milvus-backup/],
  ['POST', '/backups?name=nightly', /milvus-backup/],
  ['GET', '/backups', /milvus-backup/],
  ['POST', '/backups/nightly/restore', /milvus-backup/],
  ['DELETE', '/backups/nightly', /milvus-backup/],
  ['GET', '/reembedding', /MILVUS_COLLECTION/],
  ['PUT', '/reembedding', /MILVUS_COLLECTION/],
  ['POST', '/reembedding/promote', /MILVUS_COLLECTION/],
  ['DELETE', '/reembedding', /MILVUS_COLLECTION/],
] as const

/** The part that a service uses when it only starts and stops. */
const items = {
  size: 0,
  status: {
    name: 'milvus',
    state: 'closed',
    opened: 0,
    retries: 0,
    failures: { unavailable: 0, timeout: 0, released: 0, failed: 0 },
  },
  start: () => Promise.resolve(),
  close: () => Promise.resolve(),
} as unknown as MilvusItems

describe('a service with an external engine', () => {
  let tandem: Tandem

  beforeAll(async () => {
    const config = { ...readConfig({}), logLevel: 'silent', vectorIndex: 'milvus' } as const
    tandem = await buildApp(config, {
      open: () => Promise.resolve(new SharedCollection(new WordModels(), items, () => undefined)),
    })
    await tandem.start()
  })
  afterAll(() => tandem.close())

  it.each(UNSUPPORTED)(
    'answers 501 to %s %s and names the alternative',
    async (method, url, instead) => {
      const body = method === 'PUT' ? { payload: { model: 'other' } } : {}
      const reply = await tandem.app.inject({ method, url, ...body })
      expect([reply.statusCode, reply.headers['content-type']]).toEqual([
        501,
        expect.stringMatching(/^application\/problem\+json/),
      ])
      expect(reply.json()).toMatchObject({
        code: 'not_supported',
        detail: expect.stringMatching(instead) as string,
      })
    },
  )

  it('documents no other calls of this kind', () => {
    const { paths = {} } = tandem.app.swagger() as {
      paths?: Record<string, Record<string, unknown>>
    }
    const known = Object.entries(paths)
      .filter(([path]) => /^\/(backups|reembedding)/.test(path))
      .flatMap(([path, calls]) =>
        Object.keys(calls).map((method) => `${method.toUpperCase()} ${path}`),
      )
    const tried = UNSUPPORTED.map(
      ([method, url]) => `${method} ${url.replace('nightly', '{name}').replace(/\?.*/, '')}`,
    )
    expect(known.sort()).toEqual([...new Set(tried)].sort())
  })
})
