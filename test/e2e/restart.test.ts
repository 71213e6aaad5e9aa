/** Acknowledged writes and answers survive a stop and a kill. Runs the built server. */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { packageFolder } from '../../src/config.js'
import { startServer, type Service } from '../support/server-process.js'

const entry = join(packageFolder, 'dist', 'server.js')

let folder: string
const running: ChildProcess[] = []

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-'))
})

afterEach(async () => {
  for (const child of running.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  await rm(folder, { recursive: true, force: true })
})

/** Starts the server as `npm start` does and waits until it is ready. */
function start(environment: Record<string, string> = {}): Promise<Service> {
  return startServer([entry], { TANDEM_DATA_DIR: folder, ...environment }, running)
}

async function end({ process: child }: Service, signal: NodeJS.Signals): Promise<number | null> {
  child.kill(signal)
  const [code] = (await once(child, 'exit')) as [number | null]
  return code
}

async function add({ address }: Service, id: string, hue: number): Promise<number> {
  const body = await sharp({
    create: { width: 40, height: 30, channels: 3, background: `hsl(${hue}, 80%, 50%)` },
  })
    .jpeg()
    .toBuffer()
  const url = `${address}/items/${id}?payload=${encodeURIComponent(JSON.stringify({ hue }))}`
  return (
    await fetch(url, {
      method: 'PUT',
      body: new Uint8Array(body),
      headers: { 'content-type': 'image/jpeg' },
    })
  ).status
}

/** The answers that must not change: searches with and without rerank, by id, and the list. */
async function answers({ address }: Service): Promise<unknown[]> {
  const searches = ['q=a+red+ball&k=20', 'q=blue&k=20&rerank=false'].map((query) =>
    fetch(`${address}/search?${query}`),
  )
  const like = fetch(`${address}/search`, {
    method: 'POST',
    body: JSON.stringify({ id: 'item-1', k: 20 }),
    headers: { 'content-type': 'application/json' },
  })
  const replies = await Promise.all([...searches, like, fetch(`${address}/items`)])
  return Promise.all(
    replies.map(async (reply) => {
      const { hits, items } = (await reply.json()) as { hits?: unknown; items?: unknown }
      return hits ?? items
    }),
  )
}

// Each test starts several processes, which is slow on a busy machine.
describe.skipIf(!existsSync(entry))(
  'the built server (npm run build makes it)',
  { timeout: 120_000 },
  () => {
    it.each(['hnsw', 'exact'])(
      'gives the same answers after SIGTERM and a new start (%s)',
      async (kind) => {
        const first = await start({ VECTOR_INDEX: kind })
        for (let at = 0; at < 8; at += 1) expect(await add(first, `item-${at}`, at * 45)).toBe(201)
        expect(await add(first, 'item-3', 200)).toBe(200)
        expect((await fetch(`${first.address}/items/item-5`, { method: 'DELETE' })).status).toBe(
          204,
        )
        const before = await answers(first)
        expect(await end(first, 'SIGTERM')).toBe(0)

        const second = await start({ VECTOR_INDEX: kind })
        expect(await answers(second)).toEqual(before)
        // The snapshot of hnsw is complete; exact has none and replays all 7 items from the store.
        expect(second.log.join('\n')).toContain(`"replayed":${kind === 'hnsw' ? 0 : 7},"removed":0`)
      },
    )

    it('keeps acknowledged writes when it is killed', async () => {
      const first = await start()
      for (let at = 0; at < 4; at += 1) await add(first, `item-${at}`, at * 45)
      await end(first, 'SIGTERM')
      const second = await start()
      for (let at = 4; at < 8; at += 1) await add(second, `item-${at}`, at * 45)
      await fetch(`${second.address}/items/item-0`, { method: 'DELETE' })
      const before = await answers(second)
      await end(second, 'SIGKILL')

      const third = await start()
      expect(await answers(third)).toEqual(before)
      expect(third.log.join('\n')).toContain('"replayed":4,"removed":1')
    })

    it('refuses a data folder in use until its process is killed', async () => {
      const first = await start()
      const failure = await start().catch((error: unknown) => error)
      expect(String(failure)).toContain(`in use by a Tandem service (process ${first.process.pid}`)
      await end(first, 'SIGKILL')
      await start()
    })

    it('answers accepted requests before it stops', async () => {
      const service = await start()
      const adds = Array.from({ length: 6 }, (_, at) => add(service, `item-${at}`, at * 60))
      // Once the first is answered, the others have been sent.
      await Promise.race(adds)
      const code = end(service, 'SIGTERM')
      const statuses = await Promise.all(adds.map((one) => one.catch(() => 0)))
      expect(await code).toBe(0)
      const again = await start()
      for (const [at, status] of statuses.entries()) {
        if (status === 201)
          expect((await fetch(`${again.address}/items/item-${at}`)).status).toBe(200)
      }
      expect(statuses.filter((status) => status === 201).length).toBeGreaterThan(0)
    })

    it('refuses invalid settings and a missing bundle with a message and no stack trace', async () => {
      for (const [environment, sentence] of [
        [{ PORT: 'many' }, /PORT takes a whole number/],
        [{ HOST: '0.0.0.0' }, /no API keys are set. Set API_KEYS/],
        [{ TANDEM_MODEL: './no/such/bundle' }, /no\/such\/bundle/],
      ] as const) {
        const failure = await start(environment).catch((error: unknown) => error)
        expect(String(failure)).toMatch(sentence)
        expect(String(failure)).not.toMatch(/\n\s+at .*server\.js/)
      }
    })
  },
)
