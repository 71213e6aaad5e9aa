/** Failures of a bucket: an unreachable, slow, busy or refusing server, and invalid settings. */
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
  // The settings of the user who runs the tests must not apply.
  vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true')
  vi.stubEnv('AWS_CONFIG_FILE', '/nowhere')
  vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', '/nowhere')
  for (const name of ['AWS_PROFILE', 'AWS_SESSION_TOKEN', 'AWS_ROLE_ARN'])
    vi.stubEnv(name, undefined)
})

afterEach(() => vi.unstubAllEnvs())

/** All text of an error that a log could contain. */
function textOf(error: unknown): string {
  const { message, stack, cause } = error as Error
  return `${message} ${stack} ${JSON.stringify(error)} ${cause === undefined ? '' : textOf(cause)}`
}

/** S3 server in memory. `intercept` may answer a request itself; then it returns true. */
class FakeS3 {
  intercept: (request: IncomingMessage, response: ServerResponse) => boolean = () => false
  requests = 0
  readonly #objects = new Map<string, Buffer>()
  readonly #server: Server

  constructor() {
    this.#server = createServer((request, response) => {
      this.requests += 1
      if (this.intercept(request, response)) return
      this.#answer(request, response).catch(() => response.destroy())
    })
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const key = new URL(request.url ?? '', 'http://fake-s3').pathname
    const body = await request.toArray()
    if (request.method === 'PUT') this.#objects.set(key, Buffer.concat(body as Buffer[]))
    if (request.method === 'DELETE') this.#objects.delete(key)
    const object = this.#objects.get(key)
    if (request.method !== 'GET') response.end()
    else if (object === undefined)
      response.writeHead(404).end('<Error><Code>NoSuchKey</Code></Error>')
    else response.end(object)
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
  let server: FakeS3
  let endpoint: string
  let store: ImageStore

  beforeEach(async () => {
    server = new FakeS3()
    endpoint = await server.listen()
    store = await openImageStore({ place, collection, endpoint, timeoutMs: 20_000 })
    server.requests = 0
  })

  afterEach(() => {
    store.close()
    server.close()
  })

  const busy = (_: IncomingMessage, response: ServerResponse): boolean => {
    response.writeHead(503).end('<Error><Code>SlowDown</Code></Error>')
    return true
  }

  it('for a moment is asked again', async () => {
    server.intercept = (request, response) => server.requests < 3 && busy(request, response)
    const key = await store.put('beach', new Uint8Array(100))
    expect(server.requests).toBe(3)
    expect(await store.get(key)).toHaveLength(100)
  })

  it('for longer causes image_store_unavailable, without secrets in the error', async () => {
    server.intercept = busy
    const error: unknown = await store
      .put('beach', new Uint8Array(100))
      .catch((reason: unknown) => reason)
    expect(error).toMatchObject({ code: 'image_store_unavailable', status: 503 })
    expect((error as { retryAfterS: number }).retryAfterS).toBeGreaterThan(0)
    expect(textOf(error)).toContain('503 SlowDown')
    expect(textOf(error)).not.toContain(credentials.AWS_SECRET_ACCESS_KEY)
    expect(textOf(error)).not.toContain('Signature')
  })

  it('to answer in time causes image_store_timeout', async () => {
    const impatient = await openImageStore({ place, collection, endpoint, timeoutMs: 2000 })
    server.intercept = () => true
    const before = Date.now()
    await expect(impatient.put('beach', new Uint8Array(100))).rejects.toMatchObject({
      code: 'image_store_timeout',
      status: 504,
    })
    expect(Date.now() - before).toBeLessThan(10_000)
    impatient.close()
  })

  it('to answer is not waited for once the caller has disconnected', async () => {
    const caller = new AbortController()
    server.intercept = () => {
      caller.abort(new Error('the client has disconnected'))
      return true
    }
    await expect(store.put('beach', new Uint8Array(100), caller)).rejects.toThrow(
      'the client has disconnected',
    )
  })

  it('in the middle of an image causes an error instead of a part of the image', async () => {
    const key = await store.put('beach', new Uint8Array(100_000))
    server.intercept = (_, response) => {
      response.writeHead(200, { 'content-length': 100_000 })
      response.write(Buffer.alloc(50_000), () => response.destroy())
      return true
    }
    await expect(store.get(key)).rejects.toMatchObject({ code: 'image_store_unavailable' })
  })

  it('by refusing a request causes image_store_failed without a second attempt', async () => {
    server.intercept = (_, response) => {
      response.writeHead(403).end('<Error><Code>AccessDenied</Code></Error>')
      return true
    }
    const expected = {
      code: 'image_store_failed',
      status: 502,
      message: 'The bucket photos refused: 403 AccessDenied.',
    }
    await expect(store.put('beach', new Uint8Array(100))).rejects.toMatchObject(expected)
    expect(server.requests).toBe(1)
  })

  it('by not listening causes image_store_unavailable', async () => {
    server.close()
    await expect(store.put('beach', new Uint8Array(100))).rejects.toMatchObject({
      code: 'image_store_unavailable',
      message: expect.stringContaining('ECONNREFUSED') as string,
    })
  })
})

describe('a bucket without credentials', () => {
  it('is refused with an error that names the variables', async () => {
    for (const name of Object.keys(credentials)) vi.stubEnv(name, undefined)
    const opening = openImageStore({
      place,
      collection,
      endpoint: 'http://127.0.0.1:9',
      timeoutMs: 5000,
    })
    await expect(opening).rejects.toThrow(
      /no credentials for the bucket photos; expected AWS_ACCESS_KEY_ID/,
    )
  })
})

describe.skipIf(s3ServerMissing !== null)(
  `a bucket of a real server (${s3ServerMissing ?? 'versitygw'})`,
  () => {
    it('is refused when it is missing or the secret is wrong, and works again after a restart of its server', async () => {
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
        expect(textOf(error)).toContain('403 SignatureDoesNotMatch')
        expect(textOf(error)).not.toContain('another-secret')
      } finally {
        await server.close()
      }
    }, 60_000)
  },
)
