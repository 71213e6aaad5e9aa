/** Milvus behind a failing network: replies, their latency, and no loss of acknowledged items. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MilvusClient } from '@zilliz/milvus2-sdk-node'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { buildApp, type Tandem } from '../../../src/http/app.js'
import { SharedCollection } from '../../../src/collection/milvus/shared.js'
import { readConfig } from '../../../src/config.js'
import { connectMilvus } from '../../../src/collection/milvus/items.js'
import { openImageStore } from '../../../src/image-store/open.js'
import { FaultyProxy } from '../../support/faulty-proxy.js'
import { hasMilvus, Milvus, withoutMilvus } from '../../support/milvus.js'
import { WordModels } from '../../support/word-models.js'

vi.setConfig({ testTimeout: 60_000 })

const TIMEOUT_MS = 500
/** Bound for replies that do not wait for the engine; generous for a busy machine. */
const AT_ONCE_MS = 1000
const RECOVERY_MS = 30_000

describe.skipIf(!hasMilvus)(
  `Milvus behind a failing network ${withoutMilvus}`,
  { timeout: 120_000 },
  () => {
    let milvus: Milvus
    let proxy: FaultyProxy
    let folder: string
    let tandem: Tandem
    let url: string

    beforeAll(async () => {
      milvus = await Milvus.start()
      proxy = await FaultyProxy.start(milvus.port)
      folder = await mkdtemp(join(tmpdir(), 'tandem-faults-'))
      const models = new WordModels()
      const images = await openImageStore({
        place: { folder },
        collection: 'default.tandem',
        timeoutMs: 5000,
      })
      const { fingerprint, dim } = models.info
      const settings = {
        ...milvus.settings,
        address: proxy.address,
        timeoutMs: TIMEOUT_MS,
        fingerprint,
        dim,
        images,
      }
      const config = { ...readConfig({}), logLevel: 'silent', vectorIndex: 'milvus' } as const
      tandem = await buildApp(config, {
        open: () =>
          Promise.resolve(
            new SharedCollection(models, connectMilvus(settings), () => images.close()),
          ),
      })
      url = await tandem.app.listen({ host: '127.0.0.1', port: 0 })
      await proxy.set('refuse')
      const starting = tandem.start()
      await new Promise((resolve) => setTimeout(resolve, 1200))
      // A service without its engine is alive and waits for it.
      expect((await ask('/health/live')).status).toBe(200)
      expect(await health()).toMatchObject({
        status: 503,
        detail: expect.stringMatching(/waiting for milvus/) as string,
      })
      expect(await search()).toMatchObject({ status: 503, code: 'not_ready' })
      await proxy.set('pass')
      await starting
      expect(await health()).toMatchObject({ status: 200 })
      expect(await put('steady')).toBe(201)
    })
    beforeEach(() => recovered())
    afterEach(() => proxy.set('pass'))
    afterAll(async () => {
      await tandem.close()
      await proxy.end()
      await milvus.end()
      await rm(folder, { recursive: true, force: true })
    })

    const ask = (path: string, init: RequestInit = {}): Promise<Response> =>
      fetch(`${url}${path}`, init)
    async function put(id: string): Promise<number> {
      const headers = { 'content-type': 'image/jpeg' }
      const reply = await ask(`/items/${id}`, { method: 'PUT', headers, body: `dog ${id}` })
      await reply.arrayBuffer()
      return reply.status
    }
    async function search(headers: Record<string, string> = {}) {
      const begin = performance.now()
      const reply = await ask('/search?q=dog&rerank=false', { headers })
      const { code = '' } = (await reply.json()) as { code?: string }
      return {
        status: reply.status,
        code,
        retryAfter: reply.headers.get('retry-after'),
        ms: performance.now() - begin,
      }
    }
    async function health(): Promise<{ status: number; detail: string }> {
      const reply = await ask('/health/ready')
      return { status: reply.status, detail: ((await reply.json()) as { detail: string }).detail }
    }
    async function metric(name: string): Promise<number> {
      return Number(
        new RegExp(`^${name}(?:\\{[^}]*\\})? (\\d+)$`, 'm').exec(
          await (await ask('/metrics')).text(),
        )?.[1],
      )
    }

    /** Resolves when a search succeeds. */
    async function recovered(): Promise<void> {
      const until = performance.now() + RECOVERY_MS
      while ((await search()).status !== 200) {
        if (performance.now() > until) throw new Error('searches do not succeed again')
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    }

    /** Repeats each put until it is acknowledged. */
    async function ingest(
      prefix: string,
      count: number,
    ): Promise<{ refused: number; ids: string[] }> {
      let refused = 0
      const ids = Array.from({ length: count }, (_, at) => `${prefix}-${at}`)
      const until = performance.now() + RECOVERY_MS
      const putUntilStored = async (id: string): Promise<void> => {
        for (;;) {
          const status = await put(id)
          if (status === 200 || status === 201) return
          expect([502, 503, 504]).toContain(status)
          if (performance.now() > until) throw new Error(`${id} is not stored`)
          refused += 1
          await new Promise((resolve) => setTimeout(resolve, 50))
        }
      }
      for (let at = 0; at < count; at += 4)
        await Promise.all(ids.slice(at, at + 4).map(putUntilStored))
      return { refused, ids }
    }

    async function expectStored(ids: readonly string[]): Promise<void> {
      for (const id of ids) {
        expect((await ask(`/items/${id}`)).status, id).toBe(200)
        expect(await (await ask(`/items/${id}/image`)).text()).toBe(`dog ${id}`)
      }
    }

    it('answers 504 in time while Milvus is slow, then 503 at once, and recovers', async () => {
      const opened = await metric('tandem_engine_breaker_opened_total')
      await proxy.set('slow')
      for (let i = 0; i < 5; i += 1) {
        const slow = await search()
        expect(slow).toMatchObject({ status: 504, code: 'engine_timeout' })
        expect(slow.ms).toBeLessThan(TIMEOUT_MS + AT_ONCE_MS)
      }
      const refused = await search()
      expect(refused).toMatchObject({
        status: 503,
        code: 'engine_unavailable',
        retryAfter: expect.stringMatching(/^[1-9]\d*$/) as string,
      })
      expect(refused.ms).toBeLessThan(AT_ONCE_MS)
      expect(await put('never')).toBe(503)
      expect(await health()).toMatchObject({
        status: 200,
        detail: expect.stringMatching(/milvus does not answer/) as string,
      })
      expect(await metric('tandem_engine_available')).toBe(0)
      expect(await metric('tandem_engine_breaker_opened_total')).toBe(opened + 1)
      await proxy.set('pass')
      await recovered()
      expect(await metric('tandem_engine_available')).toBe(1)
      expect((await health()).detail).not.toMatch(/milvus/)
      await expectStored(['steady'])
    })

    it('answers within the deadline of a request without blaming the engine', async () => {
      const opened = await metric('tandem_engine_breaker_opened_total')
      await proxy.set('slow')
      for (let i = 0; i < 7; i += 1) {
        const reply = await search({ 'request-timeout': '0.1' })
        expect([503, 504]).toContain(reply.status)
        expect(reply.ms).toBeLessThan(100 + AT_ONCE_MS)
      }
      expect(await metric('tandem_engine_breaker_opened_total')).toBe(opened)
    })

    it('answers 503 while connections are refused, and stores items afterwards', async () => {
      await proxy.set('refuse')
      for (let i = 0; i < 4; i += 1) {
        const refused = await search()
        expect(refused).toMatchObject({ status: 503, code: 'engine_unavailable' })
        expect(refused.ms).toBeLessThan(TIMEOUT_MS + AT_ONCE_MS)
      }
      expect(await put('refused')).toBe(503)
      await proxy.set('pass')
      const { ids } = await ingest('after-refusal', 8)
      await expectStored(ids)
    })

    it('loses no acknowledged item while connections drop, and retries by itself', async () => {
      const retries = await metric('tandem_engine_retries_total')
      await proxy.set('drop')
      const ingesting = ingest('dropped', 40)
      await new Promise((resolve) => setTimeout(resolve, 2000))
      await proxy.set('pass')
      const { ids } = await ingesting
      await recovered()
      await expectStored(ids)
      expect(await metric('tandem_engine_retries_total')).toBeGreaterThan(retries)
    })

    it('loses no acknowledged item when Milvus is killed and restarted', async () => {
      const before = await ingest('before-kill', 8)
      const ingesting = ingest('during-kill', 16)
      await milvus.kill()
      expect((await search()).status).toBe(503)
      await milvus.begin()
      const during = await ingesting
      await recovered()
      await expectStored(['steady', ...before.ids, ...during.ids])
      expect(during.refused).toBeGreaterThan(0)
    })

    it('answers 502 while Milvus answers with errors, and keeps the breaker closed', async () => {
      const opened = await metric('tandem_engine_breaker_opened_total')
      const administrator = new MilvusClient({ address: milvus.address, logLevel: 'error' })
      await administrator.dropCollection({ collection_name: milvus.settings.collection })
      await administrator.closeConnection()
      for (let i = 0; i < 7; i += 1)
        expect(await search()).toMatchObject({ status: 502, code: 'engine_failed' })
      expect(await put('nowhere')).toBe(502)
      expect(await metric('tandem_engine_breaker_opened_total')).toBe(opened)
    })
  },
)
