/**
 * Requests that a client can cause: only to public addresses of listed hosts, in every notation of
 * an address.
 */
import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { TandemError } from '../../src/errors.js'
import type { FetchCall, ImageFetchOptions } from '../../src/image-fetch/image-fetch.js'
import { openImageFetch } from '../../src/image-fetch/open.js'
import { isPrivateAddress, isPublicAddress } from '../../src/image-fetch/addresses.js'

const servers: Server[] = []
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
})

interface LocalServer {
  port: number
  /** Host and path of each request, in order. */
  requests: string[]
}

/** A server on a loopback address; each test decides which addresses count as public. */
async function serve(
  answer: RequestListener,
  address = '127.0.0.1',
  port = 0,
): Promise<LocalServer> {
  const requests: string[] = []
  const server = createServer((request, reply) => {
    requests.push(`${request.headers.host} ${request.url}`)
    answer(request, reply)
  })
  servers.push(server.listen(port, address))
  await once(server, 'listening')
  return { port: (server.address() as AddressInfo).port, requests }
}

const image: RequestListener = (_request, reply) =>
  reply.writeHead(200, { 'content-type': 'image/png' }).end('an image')

function fetchOf(options: Partial<ImageFetchOptions> & Pick<ImageFetchOptions, 'allowedHosts'>) {
  const imageFetch = openImageFetch({
    timeoutMs: 5000,
    resolve: () => Promise.resolve(['127.0.0.1']),
    isAllowedAddress: (address) => address === '127.0.0.1',
    ...options,
  })
  return (url: string, call: Partial<FetchCall> = {}) =>
    imageFetch.fetch(url, { name: 'image', budget: { bytes: 1000 }, ...call })
}

async function failure(promise: Promise<unknown>): Promise<TandemError> {
  const error = await promise.then(
    () => new Error('the image was fetched'),
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(TandemError)
  return error as TandemError
}

describe('without a list of hosts', () => {
  it.each([
    'http://example.org/a.png',
    'https://example.org',
    'http://127.0.0.1/',
    'ftp://example.org',
    'file:///etc/passwd',
  ])('%s is not fetched', async (url) => {
    const resolve = () => Promise.reject(new Error('the name was resolved'))
    expect(await failure(fetchOf({ allowedHosts: [], resolve })(url))).toMatchObject({
      code: 'image_url_not_allowed',
    })
  })
})

describe('an address that is not public is refused even if it is listed', () => {
  const notations: [string, string][] = [
    ['loopback', 'http://127.0.0.1/'],
    ['loopback, decimal', 'http://2130706433/'],
    ['loopback, octal', 'http://0177.0.0.01/'],
    ['loopback, octal as one number', 'http://017700000001/'],
    ['loopback, hexadecimal', 'http://0x7f000001/'],
    ['loopback, hexadecimal parts', 'http://0x7f.0x0.0x0.0x1/'],
    ['loopback, mixed', 'http://0x7f.1/'],
    ['loopback, short', 'http://127.1/'],
    ['loopback, last address', 'http://127.255.255.254/'],
    ['loopback, full-width digits', 'http://１２７.０.０.１/'],
    ['loopback, circled digits', 'http://①②⑦.⓪.⓪.①/'],
    ['loopback, ideographic dots', 'http://127。0。0。1/'],
    ['loopback, percent-encoded', 'http://%31%32%37.0.0.1/'],
    ['this network', 'http://0.0.0.0/'],
    ['this network, short', 'http://0/'],
    ['private 10', 'http://10.0.0.1/'],
    ['private 172.16', 'http://172.31.255.255/'],
    ['private 192.168', 'http://192.168.0.1/'],
    ['private, decimal', 'http://3232235521/'],
    ['shared', 'http://100.64.0.1/'],
    ['metadata', 'http://169.254.169.254/'],
    ['metadata, decimal', 'http://2852039166/'],
    ['metadata, octal', 'http://0251.0376.0251.0376/'],
    ['metadata, hexadecimal', 'http://0xa9fea9fe/'],
    ['metadata of another cloud', 'http://100.100.100.200/'],
    ['metadata of a third cloud', 'http://192.0.0.192/'],
    ['platform of Azure', 'http://168.63.129.16/'],
    ['benchmarking', 'http://198.18.0.1/'],
    ['documentation', 'http://192.0.2.1/'],
    ['6to4 relay', 'http://192.88.99.1/'],
    ['multicast', 'http://224.0.0.1/'],
    ['reserved', 'http://240.0.0.1/'],
    ['broadcast', 'http://255.255.255.255/'],
    ['IPv6 loopback', 'http://[::1]/'],
    ['IPv6 loopback, long', 'http://[0:0:0:0:0:0:0:1]/'],
    ['IPv6 unspecified', 'http://[::]/'],
    ['IPv6-mapped loopback', 'http://[::ffff:127.0.0.1]/'],
    ['IPv6-mapped loopback, hexadecimal', 'http://[::ffff:7f00:1]/'],
    ['IPv6-mapped, long', 'http://[0:0:0:0:0:ffff:169.254.169.254]/'],
    ['IPv6-mapped public', 'http://[::ffff:93.184.216.34]/'],
    ['IPv4-compatible', 'http://[::127.0.0.1]/'],
    ['IPv4-translated', 'http://[::ffff:0:127.0.0.1]/'],
    ['NAT64', 'http://[64:ff9b::7f00:1]/'],
    ['NAT64, local', 'http://[64:ff9b:1::a9fe:a9fe]/'],
    ['6to4', 'http://[2002:7f00:1::]/'],
    ['Teredo', 'http://[2001:0:5ef5:79fd::1]/'],
    ['link-local', 'http://[fe80::1]/'],
    ['site-local', 'http://[fec0::1]/'],
    ['unique local', 'http://[fc00::1]/'],
    ['metadata over IPv6', 'http://[fd00:ec2::254]/'],
    ['IPv6 documentation', 'http://[2001:db8::1]/'],
    ['IPv6 documentation, new', 'http://[3fff::1]/'],
    ['discard', 'http://[100::1]/'],
    ['segment routing', 'http://[5f00::1]/'],
    ['not allocated', 'http://[4000::1]/'],
    ['IPv6 multicast', 'http://[ff02::1]/'],
  ]

  it.each(notations)('%s: %s', async (_what, url) => {
    const { hostname, host } = new URL(url)
    const address = hostname.replace(/^\[(.*)\]$/, '$1')
    const imageFetch = (resolved: string) =>
      openImageFetch({
        allowedHosts: [host, 'example.org'],
        timeoutMs: 2000,
        resolve: () => Promise.resolve([resolved]),
      })
    const call = (): FetchCall => ({ name: 'image', budget: { bytes: 1000 } })
    expect(await failure(imageFetch('192.0.2.1').fetch(url, call()))).toMatchObject({
      code: 'image_url_not_allowed',
    })
    // The same address as the result of a resolver.
    const byName = await failure(imageFetch(address).fetch('http://example.org/', call()))
    expect(byName).toMatchObject({
      code: 'image_url_not_allowed',
      message: expect.stringContaining('example.org') as string,
    })
    expect(byName.message).not.toContain(address)
    // A list with other hosts does not allow it either.
    const unlisted = fetchOf({ allowedHosts: ['example.org'] })
    expect(await failure(unlisted(url))).toMatchObject({ code: 'image_url_not_allowed' })
  })

  it.each([
    ['among public ones', ['93.184.216.34', '10.0.0.1']],
    ['before public ones', ['::1', '93.184.216.34']],
    ['that is not an address', ['localhost']],
    ['with a zone', ['fe80::1%lo']],
  ])('%s', async (_what, addresses) => {
    const imageFetch = openImageFetch({
      allowedHosts: ['a.example'],
      timeoutMs: 2000,
      resolve: () => Promise.resolve(addresses),
    })
    const error = await failure(
      imageFetch.fetch('http://a.example/', { name: 'image', budget: { bytes: 9 } }),
    )
    expect(error.code).toBe('image_url_not_allowed')
  })

  it.each([
    '93.184.216.34',
    '8.8.8.8',
    '172.32.0.1',
    '100.128.0.1',
    '2606:4700::1111',
    '2a00:1450:4001::1',
  ])('the public address %s is allowed', (address) => expect(isPublicAddress(address)).toBe(true))
})

describe('a host of a private network', () => {
  /** Without the addresses that tests declare public. */
  const privately = (privateHosts: string[], options: Partial<ImageFetchOptions> = {}) =>
    fetchOf({ allowedHosts: [], privateHosts, isAllowedAddress: isPublicAddress, ...options })

  it('is fetched if it is listed as such, by name and by literal address', async () => {
    const { port, requests } = await serve(image)
    const get = privately([`minio:${port}`, `127.0.0.1:${port}`])
    for (const host of ['minio', '127.0.0.1', '2130706433'])
      expect(Buffer.from(await get(`http://${host}:${port}/a`)).toString()).toBe('an image')
    expect(requests).toEqual([`minio:${port} /a`, `127.0.0.1:${port} /a`, `127.0.0.1:${port} /a`])
  })

  it('is listed with its port, and allows no other host', async () => {
    const { port, requests } = await serve(image)
    const get = privately([`minio:${port}`], { allowedHosts: [`a.example:${port}`] })
    for (const url of [
      'http://minio/',
      `http://minio:${port + 1}/`,
      `http://127.0.0.1:${port}/`,
      `http://sub.minio:${port}/`,
      // Listed, but not as a host of a private network.
      `http://a.example:${port}/`,
    ])
      expect((await failure(get(url))).code, url).toBe('image_url_not_allowed')
    expect(requests).toEqual([])
  })

  it('may redirect only to listed hosts, each at its own addresses', async () => {
    let location = ''
    const { port, requests } = await serve((request, reply) =>
      request.url === '/image' ? image(request, reply) : reply.writeHead(302, { location }).end(),
    )
    const get = privately([`minio:${port}`], { allowedHosts: [`a.example:${port}`] })
    for (location of [
      `http://127.0.0.1:${port}/image`,
      `http://a.example:${port}/image`,
      'http://169.254.169.254/latest/meta-data',
    ])
      expect((await failure(get(`http://minio:${port}/`))).code, location).toBe(
        'image_url_not_allowed',
      )
    expect(requests).toHaveLength(3)
    location = '/image'
    expect(Buffer.from(await get(`http://minio:${port}/`)).toString()).toBe('an image')
  })

  it('is checked at each connection (DNS rebinding)', async () => {
    const { port, requests } = await serve(image)
    let lookups = 0
    const resolve = () => Promise.resolve([(lookups += 1) === 1 ? '127.0.0.1' : '169.254.169.254'])
    const get = privately([`minio:${port}`], { resolve })
    await get(`http://minio:${port}/`)
    expect((await failure(get(`http://minio:${port}/`))).code).toBe('image_url_not_allowed')
    expect(requests).toHaveLength(1)
  })

  it.each([
    ['link-local', '169.254.169.254'],
    ['link-local of IPv6', 'fe80::1'],
    ['metadata over IPv6', 'fd00:ec2::254'],
    ['metadata of another cloud over IPv6', 'fd20:ce::254'],
    ['metadata of a third cloud over IPv6', 'fd00:c1::a9fe:a9fe'],
    ['metadata in shared addresses', '100.100.100.200'],
    ['platform of Azure', '168.63.129.16'],
    ['this network', '0.0.0.0'],
    ['multicast', '224.0.0.1'],
    ['mapped loopback', '::ffff:127.0.0.1'],
    ['NAT64', '64:ff9b::a00:1'],
  ])('has no address that is %s: %s', async (_what, address) => {
    const host = address.includes(':') ? `[${address}]` : address
    const { host: written } = new URL(`http://${host}/`)
    const resolve = () => Promise.resolve(['10.0.0.1', address])
    const get = privately(['minio', written], { resolve })
    expect((await failure(get('http://minio/'))).code).toBe('image_url_not_allowed')
    expect((await failure(get(`http://${host}/`))).code).toBe('image_url_not_allowed')
  })

  it.each(['10.1.2.3', '172.31.0.1', '192.168.1.5', '127.0.0.1', '::1', 'fd12:3456::1'])(
    'may have the private address %s',
    (address) => expect(isPrivateAddress(address)).toBe(true),
  )
})

describe('a URL is refused', () => {
  it.each([
    ['of a host that is not listed', 'http://b.example/'],
    ['of a host that ends in a listed one', 'http://evil-a.example/'],
    ['of a host under a listed one', 'http://sub.a.example/'],
    ['of a listed name with a trailing dot', 'http://a.example./'],
    ['of another port', 'http://a.example:8080/'],
    ['that hides its host behind a user name', 'http://a.example@b.example/'],
    ['with a user name', 'http://user@a.example/'],
    ['with a password', 'http://:secret@a.example/'],
    ['with a backslash', 'http://b.example\\@a.example/'],
    ['of a local name', 'http://localhost/'],
    ['of an unknown scheme', 'gopher://a.example/'],
    ['of a file', 'file://a.example/etc/passwd'],
    ['without a host', 'http://'],
    ['that is too long', `http://a.example/${'x'.repeat(10_000)}`],
  ])('%s', async (_what, url) => {
    const resolve = () => Promise.reject(new Error('the name was resolved'))
    const error = await failure(fetchOf({ allowedHosts: ['a.example'], resolve })(url))
    expect(error.code).toBe('image_url_not_allowed')
    expect(error.message).not.toMatch(/secret|x{300}/)
  })
})

describe('a name that resolves to another address the second time (DNS rebinding)', () => {
  it('is resolved once for each connection, which uses the checked address', async () => {
    const { port, requests } = await serve(image)
    const inside = await serve(image, '127.0.0.2', port)
    const resolved: string[] = []
    const resolve = (host: string) =>
      Promise.resolve([resolved.push(host) === 1 ? '127.0.0.1' : '127.0.0.2'])
    const get = fetchOf({ allowedHosts: [`a.example:${port}`], resolve })
    expect(Buffer.from(await get(`http://a.example:${port}/first`)).toString()).toBe('an image')
    expect(resolved).toEqual(['a.example'])
    expect((await failure(get(`http://a.example:${port}/second`))).code).toBe(
      'image_url_not_allowed',
    )
    expect(requests).toEqual([`a.example:${port} /first`])
    expect(inside.requests).toEqual([])
  })

  it('is refused when the address changes between two redirects', async () => {
    const { port } = await serve((_request, reply) =>
      reply.writeHead(302, { location: '/inside' }).end(),
    )
    const inside = await serve(image, '127.0.0.2', port)
    let lookups = 0
    const resolve = () => Promise.resolve([(lookups += 1) === 1 ? '127.0.0.1' : '127.0.0.2'])
    const get = fetchOf({ allowedHosts: [`a.example:${port}`], resolve })
    expect((await failure(get(`http://a.example:${port}/`))).code).toBe('image_url_not_allowed')
    expect(lookups).toBe(2)
    expect(inside.requests).toEqual([])
  })
})

describe('a redirect', () => {
  it.each([
    ['another host', 'http://b.example/', 'image_url_not_allowed'],
    ['an address of this machine', 'http://127.0.0.1/', 'image_url_not_allowed'],
    ['an address of this machine, decimal', 'http://2130706433/', 'image_url_not_allowed'],
    ['metadata', 'http://169.254.169.254/latest/meta-data', 'image_url_not_allowed'],
    ['mapped loopback', 'http://[::ffff:127.0.0.1]/', 'image_url_not_allowed'],
    ['another host, without a scheme', '//b.example/', 'image_url_not_allowed'],
    ['a file', 'file:///etc/passwd', 'image_url_not_allowed'],
    ['data', 'data:image/png;base64,AAAA', 'image_url_not_allowed'],
    ['a user name', 'http://user@a.example/', 'image_url_not_allowed'],
    ['another port', 'http://a.example:1/', 'image_url_not_allowed'],
    ['nothing', 'http://', 'image_url_not_allowed'],
  ])('to %s is refused', async (_what, location, code) => {
    const { port, requests } = await serve((_request, reply) =>
      reply.writeHead(302, { location }).end(),
    )
    const get = fetchOf({ allowedHosts: [`a.example:${port}`] })
    expect((await failure(get(`http://a.example:${port}/`))).code).toBe(code)
    expect(requests).toHaveLength(1)
  })

  it.each([301, 302, 303, 307, 308])(
    'with %i is followed to a listed host, at most three times',
    async (status) => {
      let redirects = 3
      const { port, requests } = await serve((request, reply) => {
        if (redirects === 0) return image(request, reply)
        redirects -= 1
        reply
          .writeHead(status, {
            location: redirects % 2 === 0 ? '/on' : `http://b.example:${port}/on`,
          })
          .end('ignored')
      })
      const get = fetchOf({ allowedHosts: [`a.example:${port}`, `b.example:${port}`] })
      expect(Buffer.from(await get(`http://a.example:${port}/`)).toString()).toBe('an image')
      expect(requests).toHaveLength(4)
      redirects = 4
      expect(await failure(get(`http://a.example:${port}/`))).toMatchObject({
        code: 'image_not_fetched',
        message: expect.stringContaining('more than 3 times') as string,
      })
    },
  )
})

describe('a reply is refused', () => {
  const replies: [string, string, RequestListener][] = [
    [
      'that is a page',
      'image_type_unsupported',
      (_request, reply) => reply.setHeader('content-type', 'text/html').end('<p>'),
    ],
    ['without a type', 'image_type_unsupported', (_request, reply) => reply.end('an image')],
    ['of 404', 'image_not_fetched', (_request, reply) => reply.writeHead(404).end()],
    [
      'of 206',
      'image_not_fetched',
      (_request, reply) => reply.writeHead(206, { 'content-type': 'image/png' }).end('a'),
    ],
    ['of 304', 'image_not_fetched', (_request, reply) => reply.writeHead(304).end()],
    [
      'whose announced length is too large',
      'body_too_large',
      (_request, reply) =>
        reply.writeHead(200, { 'content-type': 'image/png', 'content-length': 1001 }).end('a'),
    ],
    [
      'that is too large',
      'body_too_large',
      (_request, reply) =>
        reply.writeHead(200, { 'content-type': 'image/png' }).end('a'.repeat(1001)),
    ],
    [
      'that never ends',
      'body_too_large',
      (_request, reply) => {
        reply.writeHead(200, { 'content-type': 'image/png' })
        const timer = setInterval(() => reply.write('a'.repeat(100)), 1)
        reply.on('close', () => clearInterval(timer))
      },
    ],
    [
      'that is compressed',
      'image_not_fetched',
      (_request, reply) =>
        reply.writeHead(200, { 'content-type': 'image/png', 'content-encoding': 'gzip' }).end('a'),
    ],
    [
      'that is empty',
      'image_not_fetched',
      (_request, reply) => reply.writeHead(200, { 'content-type': 'image/png' }).end(),
    ],
    [
      'that is cut off',
      'image_not_fetched',
      (_request, reply) => {
        reply.writeHead(200, { 'content-type': 'image/png', 'content-length': 100 }).write('a')
        setTimeout(() => reply.destroy(), 20)
      },
    ],
    [
      'that is not HTTP',
      'image_not_fetched',
      (_request, reply) => reply.socket?.end('SSH-2.0-OpenSSH\r\n'),
    ],
    [
      'with endless headers',
      'image_not_fetched',
      (_request, reply) => reply.writeHead(200, { x: 'x'.repeat(100_000) }).end(),
    ],
  ]
  it.each(replies)('%s', async (_what, code, answer) => {
    const { port } = await serve(answer)
    const error = await failure(
      fetchOf({ allowedHosts: [`a.example:${port}`] })(`http://a.example:${port}/x?token=secret`),
    )
    expect([error.code, error.message]).toEqual([code, expect.stringContaining('a.example')])
    expect(error.message).not.toContain('secret')
  })

  it.each<[string, RequestListener]>([
    ['that never begins', () => undefined],
    [
      'that arrives slowly',
      (_request, reply) => {
        reply.writeHead(200, { 'content-type': 'image/png' })
        const timer = setInterval(() => reply.write('a'), 50)
        reply.on('close', () => clearInterval(timer))
      },
    ],
  ])('%s, after the timeout', async (_what, answer) => {
    const { port } = await serve(answer)
    const get = fetchOf({ allowedHosts: [`a.example:${port}`], timeoutMs: 300 })
    const begun = performance.now()
    expect(await failure(get(`http://a.example:${port}/`))).toMatchObject({
      code: 'image_not_fetched',
      message: expect.stringContaining('longer than 300 ms') as string,
    })
    expect(performance.now() - begun).toBeLessThan(5000)
  })

  it('if the host has no address, or its resolver fails or never replies', async () => {
    for (const resolve of [
      () => Promise.resolve([]),
      () => Promise.reject(Object.assign(new Error('no'), { code: 'ENOTFOUND' })),
      () => new Promise<string[]>(() => undefined),
    ]) {
      const get = fetchOf({ allowedHosts: ['a.example'], resolve, timeoutMs: 300 })
      expect((await failure(get('http://a.example/'))).code).toBe('image_not_fetched')
    }
  })
})

describe('a request that fetches', () => {
  it('shares its budget among its images', async () => {
    const { port } = await serve(image)
    const get = fetchOf({ allowedHosts: [`a.example:${port}`] })
    const budget = { bytes: 18 }
    await get(`http://a.example:${port}/`, { budget })
    await get(`http://a.example:${port}/`, { budget })
    expect(budget.bytes).toBe(2)
    expect((await failure(get(`http://a.example:${port}/`, { budget }))).code).toBe(
      'body_too_large',
    )
  })

  it('stops with the reason of its signal when its client disconnects', async () => {
    const { port } = await serve(() => undefined)
    const controller = new AbortController()
    const fetching = fetchOf({ allowedHosts: [`a.example:${port}`] })(`http://a.example:${port}/`, {
      signal: controller.signal,
    })
    const reason = new TandemError('timed_out', 'too late')
    setTimeout(() => controller.abort(reason), 50)
    await expect(fetching).rejects.toBe(reason)
  })

  it('waits while sixteen others run', async () => {
    let open = 0
    let maximum = 0
    const { port, requests } = await serve((request, reply) => {
      maximum = Math.max(maximum, (open += 1))
      setTimeout(() => {
        open -= 1
        image(request, reply)
      }, 20)
    })
    const get = fetchOf({ allowedHosts: [`a.example:${port}`] })
    await Promise.all(Array.from({ length: 50 }, () => get(`http://a.example:${port}/`)))
    expect(requests).toHaveLength(50)
    expect(maximum).toBeLessThanOrEqual(16)
    expect(maximum).toBeGreaterThan(1)
  })

  it('sends neither credentials nor cookies', async () => {
    let headers: Record<string, unknown> = {}
    const { port } = await serve((request, reply) => {
      headers = request.headers
      image(request, reply)
    })
    await fetchOf({ allowedHosts: [`a.example:${port}`] })(`http://a.example:${port}/`)
    expect(Object.keys(headers).sort()).toEqual([
      'accept',
      'accept-encoding',
      'connection',
      'host',
      'user-agent',
    ])
    expect(headers['connection']).toBe('close')
  })
})
