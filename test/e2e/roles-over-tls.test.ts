/** An encoder and search services as processes, with TLS between them, and over Milvus. */
import { spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageFolder } from '../../src/config.js'
import { hasMilvus, Milvus, withoutMilvus } from '../support/milvus.js'
import { startServer, type Service } from '../support/server-process.js'

const hasOpenssl = spawnSync('openssl', ['version']).status === 0

describe.skipIf(!hasOpenssl)(
  'an encoder with a certificate (openssl makes it)',
  { timeout: 120_000 },
  () => {
    const running: ChildProcess[] = []
    let folder: string
    let encoder: Service

    const start = (environment: Record<string, string>): Promise<Service> => {
      const source = [
        '--import',
        join(packageFolder, 'test/support/run-source.mjs'),
        join(packageFolder, 'src/server.ts'),
      ]
      return startServer(source, environment, running)
    }
    const certificate = (): string => join(folder, 'encoder.pem')
    const searching = () => ({
      TANDEM_ROLE: 'search',
      ENCODER_URL: encoder.address,
      TANDEM_MODEL: '/no/bundle/here',
    })
    const knowing = () => ({ ...searching(), NODE_EXTRA_CA_CERTS: certificate() })

    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'tandem-roles-tls-'))
      const key = join(folder, 'encoder.key')
      const made = [
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
        '-days',
        '2',
        '-keyout',
        key,
        '-out',
        certificate(),
      ]
      const { status } = spawnSync('openssl', [
        'req',
        ...made,
        '-subj',
        '/CN=encoder',
        '-addext',
        'subjectAltName=IP:127.0.0.1',
      ])
      expect(status).toBe(0)
      encoder = await start({
        TANDEM_ROLE: 'encode',
        TLS_CERT_FILE: certificate(),
        TLS_KEY_FILE: key,
      })
      expect(encoder.address).toMatch(/^https:/)
    })
    afterAll(async () => {
      const alive = running.filter(
        ({ exitCode, signalCode }) => exitCode === null && signalCode === null,
      )
      // Listen at once: the end of one process may end another.
      const ended = alive.map((child) => once(child, 'exit'))
      for (const child of alive) child.kill('SIGKILL')
      await Promise.all(ended)
      await rm(folder, { recursive: true, force: true })
    })

    async function add({ address }: Service, id: string, hue: number): Promise<number> {
      const image = await sharp({
        create: { width: 40, height: 30, channels: 3, background: `hsl(${hue}, 80%, 50%)` },
      })
        .jpeg()
        .toBuffer()
      const headers = { 'content-type': 'image/jpeg' }
      return (
        await fetch(`${address}/items/${id}`, {
          method: 'PUT',
          body: new Uint8Array(image),
          headers,
        })
      ).status
    }
    async function hits(
      { address }: Service,
      query: string,
    ): Promise<{ id: string; match: number | null; similarity: number }[]> {
      const answer = await fetch(`${address}/search?${query}`)
      return (
        (await answer.json()) as {
          hits: { id: string; match: number | null; similarity: number }[]
        }
      ).hits
    }

    it('is called over TLS by services that know its authority', async () => {
      const search = await start({
        ...knowing(),
        TANDEM_DATA_DIR: join(folder, 'data'),
        VECTOR_INDEX: 'exact',
      })
      for (let at = 0; at < 4; at += 1) expect(await add(search, `item-${at}`, at * 90)).toBe(201)
      const found = await hits(search, 'q=a+red+ball&k=4')
      expect(found.map(({ id }) => id).sort()).toEqual(['item-0', 'item-1', 'item-2', 'item-3'])
      expect(found.every(({ match }) => typeof match === 'number')).toBe(true)
    })

    it('is refused with a message by a service that does not know its authority', async () => {
      const failure = await start({
        ...searching(),
        TANDEM_DATA_DIR: join(folder, 'other'),
        VECTOR_INDEX: 'exact',
      }).catch((error: unknown) => error)
      expect(String(failure)).toMatch(
        /cannot start: The certificate of the encoder at \S+ is not trusted \(DEPTH_ZERO_SELF_SIGNED_CERT\): set NODE_EXTRA_CA_CERTS/,
      )
    })

    it.skipIf(!hasMilvus)(
      `serves those that keep their items in Milvus ${withoutMilvus}`,
      async () => {
        const milvus = await Milvus.start()
        try {
          const shared = {
            VECTOR_INDEX: 'milvus',
            MILVUS_ADDRESS: milvus.address,
            IMAGE_STORE: join(folder, 'images'),
          }
          const [first, second] = await Promise.all([
            start({ ...knowing(), ...shared }),
            start({ ...knowing(), ...shared }),
          ])
          for (let at = 0; at < 6; at += 1)
            expect(await add(at % 2 === 0 ? first : second, `item-${at}`, at * 60)).toBe(201)
          const found = await hits(first, 'q=a+red+ball&k=6')
          expect(found).toHaveLength(6)
          expect(found.every(({ match }) => typeof match === 'number')).toBe(true)
          expect(await hits(second, 'q=a+red+ball&k=6')).toEqual(found)
          const whole = await start({ ...shared })
          expect((await hits(whole, 'q=a+red+ball&k=6')).map(({ id }) => id)).toEqual(
            found.map(({ id }) => id),
          )
          expect((await fetch(`${second.address}/items/item-0`, { method: 'DELETE' })).status).toBe(
            204,
          )
          expect((await hits(first, 'q=a+red+ball&k=6')).map(({ id }) => id)).toEqual(
            found.map(({ id }) => id).filter((id) => id !== 'item-0'),
          )
        } finally {
          await milvus.end()
        }
      },
    )
  },
)
