/**
 * What goes wrong with a bucket: a server that is away, slow, busy or refuses, and settings that
 * are wrong.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { ImageStore } from '../../src/image-store/image-store.js'
import { openImageStore } from '../../src/image-store/open.js'
import { credentials, S3Server, s3ServerMissing } from '../support/s3-server.js'

vi.setConfig({ testTimeout: 60_000 })

const place = { bucket: 'photos', prefix: '' }
const collection = 'tandem'

beforeEach(() => {
  for (const [name, value] of Object.entries(credentials)) vi.stubEnv(name, value)
  // Of whoever runs the tests nothing is to be used.
  vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true')
  vi.stubEnv('AWS_CONFIG_FILE', '/nowhere')
  vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', '/nowhere')
  for (const name of ['AWS_PROFILE', 'AWS_SESSION_TOKEN', 'AWS_ROLE_ARN'])
    vi.stubEnv(name, undefined)
})

afterEach(() => vi.unstubAllEnvs())

/** Everything that a log could show of an error. */
function told(error: unknown): string {
  const { message, stack, cause } = error as Error
  return `${message} ${stack} ${JSON.stringify(error)} ${cause === undefined ? '' : told(cause)}`
}

/** Keeps objects in memory; `meet` may treat a request in its own way, and says whether it did. */
class StandIn {
  meet: (request: IncomingMessage, response: ServerResponse) => boolean = () => false
  requests = 0
  readonly #objects = new Map<string, Buffer>()
  readonly #server: Server

  constructor() {
    this.#server = createServer((request, response) => {
      this.requests += 1
      if (this.meet(request, response)) return
      this.#answer(request, response).catch(() => response.destroy())
    })
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const key = new URL(request.url ?? '', 'http://stand-in').pathname
    const body = await request.toArray()
    if (request.method === 'PUT') this.#objects.set(key, Buffer.concat(body as Buffer[]))
    if (request.method === 'DELETE') this.#objects.delete(key)
    const found = this.#objects.get(key)
    if (request.method !== 'GET') response.end()
    else if (found === undefined)
      response.writeHead(404).end('<Error><Code>NoSuchKey</Code></Error>')
    else response.end(found)
  }

  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  close(): void {
    this.#server.closeAllConnections()
    this.#server.close()
  }
}

describe('a bucket whose server fails', () => {
  let standIn: StandIn
  let endpoint: string
  let store: ImageStore

  beforeEach(async () => {
    standIn = new StandIn()
    endpoint = await standIn.listen()
    store = await openImageStore({ place, collection, endpoint, timeoutMs: 20_000 })
    standIn.requests = 0
  })

  afterEach(() => {
    store.close()
    standIn.close()
  })

  const busy = (_: IncomingMessage, response: ServerResponse): boolean => {
    response.writeHead(503).end('<Error><Code>SlowDown</Code></Error>')
    return true
  }

  it('for a moment, is asked again', async () => {
    standIn.meet = (request, response) => standIn.requests < 3 && busy(request, response)
    const key = await store.put('beach', new Uint8Array(100))
    expect(standIn.requests).toBe(3)
    expect(await store.get(key)).toHaveLength(100)
  })

  it('for longer, is not available', async () => {
    standIn.meet = busy
    const error: unknown = await store
      .put('beach', new Uint8Array(100))
      .catch((reason: unknown) => reason)
    expect(error).toMatchObject({ code: 'image_store_unavailable', status: 503 })
    expect((error as { retryAfterS: number }).retryAfterS).toBeGreaterThan(0)
    expect(told(error)).toContain('503 SlowDown')
    expect(told(error)).not.toContain(credentials.AWS_SECRET_ACCESS_KEY)
    expect(told(error)).not.toContain('Signature')
  })

  it('to answer in time, has taken too long', async () => {
    const hasty = await openImageStore({ place, collection, endpoint, timeoutMs: 2000 })
    standIn.meet = () => true
    const before = Date.now()
    await expect(hasty.put('beach', new Uint8Array(100))).rejects.toMatchObject({
      code: 'image_store_timeout',
      status: 504,
    })
    expect(Date.now() - before).toBeLessThan(10_000)
    hasty.close()
  })

  it('to answer while the caller leaves, is not waited for', async () => {
    const gone = new AbortController()
    standIn.meet = () => {
      gone.abort(new Error('the client has gone'))
      return true
    }
    await expect(store.put('beach', new Uint8Array(100), gone)).rejects.toThrow(
      'the client has gone',
    )
  })

  it('in the middle of an image, gives none', async () => {
    const key = await store.put('beach', new Uint8Array(100_000))
    standIn.meet = (_, response) => {
      response.writeHead(200, { 'content-length': 100_000 })
      response.write(Buffer.alloc(50_000), () => response.destroy())
      return true
    }
    await expect(store.get(key)).rejects.toMatchObject({ code: 'image_store_unavailable' })
  })

  it('by refusing, has failed: that is not tried again', async () => {
    standIn.meet = (_, response) => {
      response.writeHead(403).end('<Error><Code>AccessDenied</Code></Error>')
      return true
    }
    const expected = {
      code: 'image_store_failed',
      status: 502,
      message: 'The bucket photos refused: 403 AccessDenied.',
    }
    await expect(store.put('beach', new Uint8Array(100))).rejects.toMatchObject(expected)
    expect(standIn.requests).toBe(1)
  })

  it('by being away, is not available', async () => {
    standIn.close()
    await expect(store.put('beach', new Uint8Array(100))).rejects.toMatchObject({
      code: 'image_store_unavailable',
      message: expect.stringContaining('ECONNREFUSED') as string,
    })
  })
})

describe('a bucket without credentials', () => {
  it('is refused with a sentence that names the variables', async () => {
    for (const name of Object.keys(credentials)) vi.stubEnv(name, undefined)
    const opened = openImageStore({
      place,
      collection,
      endpoint: 'http://127.0.0.1:9',
      timeoutMs: 5000,
    })
    await expect(opened).rejects.toThrow(
      /no credentials for the bucket photos; expected AWS_ACCESS_KEY_ID/,
    )
  })
})

describe.skipIf(s3ServerMissing !== null)(
  `a bucket of a real server (${s3ServerMissing ?? 'versitygw'})`,
  () => {
    it('is refused when it is not there or the secret is wrong, and found again when its server is', async () => {
      const server = await S3Server.start()
      try {
        const options = { place, collection, endpoint: server.endpoint, timeoutMs: 10_000 }
        await expect(openImageStore(options)).rejects.toThrow(
          'The bucket photos refused: 404 NoSuchBucket.',
        )
        const client = new S3Client({
          endpoint: server.endpoint,
          region: 'us-east-1',
          forcePathStyle: true,
        })
        await client.send(new CreateBucketCommand({ Bucket: 'photos' }))
        client.destroy()

        const store = await openImageStore(options)
        const key = await store.put('beach', new Uint8Array(50_000))
        await server.kill()
        await expect(store.get(key)).rejects.toMatchObject({ code: 'image_store_unavailable' })
        await expect(store.put('beach', new Uint8Array(10))).rejects.toMatchObject({
          code: 'image_store_unavailable',
        })
        await server.resume()
        expect(await store.get(key)).toHaveLength(50_000)
        store.close()

        vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'another-secret')
        const error: unknown = await openImageStore(options).catch((reason: unknown) => reason)
        expect(error).toMatchObject({ code: 'image_store_failed' })
        expect(told(error)).toContain('403 SignatureDoesNotMatch')
        expect(told(error)).not.toContain('another-secret')
      } finally {
        await server.close()
      }
    }, 60_000)
  },
)
