/** Fetching from a server that speaks the protocol of the hub, whole and broken in many ways. */
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type IncomingMessage } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { fetchModel, type FetchOptions } from '../../src/model-hub/fetch-model.js'
import { hubModel, HubError } from '../../src/model-hub/hub.js'
import { hubSettings } from '../../src/model-hub/settings.js'
import { digestOf, ID, startHub, type HubServer } from '../support/hub-server.js'
import { randomNumbers } from '../support/random-embeddings.js'

let hub: HubServer
let home = ''
let lines: string[] = []

const bytes = (length: number, seed: number): Buffer => {
  const next = randomNumbers(seed)
  return Buffer.from(Array.from({ length }, () => Math.floor(next() * 256)))
}

const blobs = (): string => join(home, 'hub/models--some-owner--some-model/blobs')

async function fetched(
  options: Partial<FetchOptions> = {},
  { name = ID, token = '' } = {},
): ReturnType<typeof fetchModel> {
  const model = hubModel(name)
  if (model === null) throw new Error('the test names no model')
  const environment = { HF_HOME: home, HF_ENDPOINT: hub.endpoint, HF_TOKEN: token }
  return fetchModel(model, {
    settings: hubSettings(environment),
    choose: (names) => [...names],
    progress: (line) => lines.push(line),
    pauseMs: 1,
    ...options,
  })
}

/** The sentence of a fetch that fails. */
async function refusal(...args: Parameters<typeof fetched>): Promise<string> {
  const error = await fetched(...args).then(
    () => null,
    (failure: unknown) => failure,
  )
  expect(error).toBeInstanceOf(HubError)
  return (error as Error).message
}

const lineOf = ({ method, url }: IncomingMessage): string => `${method} ${url}`

beforeEach(async () => {
  hub = await startHub()
  home = mkdtempSync(join(tmpdir(), 'tandem-hub-'))
  lines = []
  hub.files.set('config.json', { content: Buffer.from('{"a": 1}') })
  hub.files.set('onnx/model.onnx', { content: bytes(200_000, 1), large: true })
})
afterEach(async () => {
  await hub.close()
  rmSync(home, { recursive: true, force: true })
  vi.unstubAllEnvs()
})

describe('a model of the hub', () => {
  it('lies in the layout of the cache that other libraries read', async () => {
    const { folder, commit } = await fetched()
    expect(commit).toBe(hub.commit)
    expect(folder).toBe(join(home, 'hub/models--some-owner--some-model/snapshots', hub.commit))
    for (const [name, file] of hub.files) {
      expect(readFileSync(join(folder, name))).toEqual(file.content)
      expect(lstatSync(join(folder, name)).isSymbolicLink()).toBe(true)
    }
    const digest = digestOf(hub.files.get('onnx/model.onnx') ?? { content: Buffer.alloc(0) })
    expect(readlinkSync(join(folder, 'onnx/model.onnx'))).toBe(`../../../blobs/${digest}`)
    expect(readFileSync(join(folder, '../../refs/main'), 'utf8')).toBe(hub.commit)
    expect(readdirSync(blobs())).toHaveLength(2)
  })

  it('is fetched once', async () => {
    await fetched()
    hub.requests.length = 0
    await fetched()
    expect(hub.requests.map(({ line }) => line.split(' ')[0])).toEqual(['GET', 'HEAD', 'HEAD'])
  })

  it('gets the chosen files alone', async () => {
    const { folder } = await fetched({ choose: () => ['config.json'] })
    expect(readdirSync(folder)).toEqual(['config.json'])
    expect(hub.requests.some(({ line }) => line.includes('model.onnx'))).toBe(false)
  })

  it('is named with a revision, whose slash is escaped', async () => {
    await fetched({}, { name: `${ID}@refs/pr/3` })
    expect(hub.requests[0]?.line).toBe(`GET /api/models/${ID}/revision/refs%2Fpr%2F3`)
    expect(readFileSync(join(blobs(), '../refs/refs/pr/3'), 'utf8')).toBe(hub.commit)
  })

  it('is read from the cache alone with HF_HUB_OFFLINE', async () => {
    const { folder } = await fetched()
    hub.requests.length = 0
    const settings = hubSettings({ HF_HOME: home, HF_HUB_OFFLINE: '1' })
    expect((await fetched({ settings })).folder).toBe(folder)
    const elsewhere = hubSettings({ HF_HOME: join(home, 'x'), HF_HUB_OFFLINE: '1' })
    expect(await refusal({ settings: elsewhere })).toMatch(/HF_HUB_OFFLINE forbids/)
    expect(hub.requests).toEqual([])
  })

  it('follows a redirect of the hub itself, as after a change of the name', async () => {
    hub.answer = ({ url = '' }, response) => {
      if (!url.startsWith('/old/name/') && !url.startsWith('/api/models/old/name/')) return false
      response.writeHead(307, { location: url.replace('old/name', ID) }).end()
      return true
    }
    const { folder } = await fetched({}, { name: 'old/name' })
    expect(existsSync(join(folder, 'onnx/model.onnx'))).toBe(true)
  })
})

describe('a token', () => {
  it('is sent to the hub and not to the server of its large files', async () => {
    await fetched({}, { token: 'hf_secret' })
    const seen = (host: string): (string | null)[] => [
      ...new Set(hub.requests.filter((one) => one.host === host).map((one) => one.authorization)),
    ]
    expect(seen('hub')).toEqual(['Bearer hf_secret'])
    expect(seen('storage')).toEqual([null])
  })

  it('is read from the file of the hub, and a variable wins', () => {
    writeFileSync(join(home, 'token'), 'hf_file\n')
    expect(hubSettings({ HF_HOME: home }).token).toBe('hf_file')
    expect(hubSettings({ HF_HOME: home, HF_TOKEN: 'hf_set' }).token).toBe('hf_set')
    expect(() => hubSettings({ HF_HOME: home, HF_TOKEN: 'a\nb' })).toThrow(/characters/)
  })

  it.each([
    [401, '', /has no model some-owner.*private: set HF_TOKEN/],
    [401, 'GatedRepo', /gated: accept its conditions at .* HF_TOKEN/],
    [403, 'GatedRepo', /gated/],
    [403, '', /refuses .* \(403\): set HF_TOKEN/],
    [404, 'RepoNotFound', /has no model/],
    [404, 'RevisionNotFound', /has no branch, tag or commit "main"/],
    [418, '', /answered 418/],
  ])('that is missing: %s %s becomes a sentence', async (status, code, sentence) => {
    hub.answer = (_, response) => {
      response.writeHead(status, code === '' ? {} : { 'x-error-code': code }).end('x')
      return true
    }
    expect(await refusal()).toMatch(sentence)
  })
})

describe('an interruption', () => {
  it('continues where the connection broke off', async () => {
    hub.cuts = [50_000, 60_000]
    const { folder } = await fetched()
    const ranges = hub.requests.filter(({ host }) => host === 'storage').map(({ range }) => range)
    expect(ranges).toEqual([null, 'bytes=50000-', 'bytes=110000-'])
    expect(readFileSync(join(folder, 'onnx/model.onnx'))).toEqual(bytes(200_000, 1))
    expect(lines.filter((line) => line.includes('broke off'))).toHaveLength(2)
  })

  it('of the command is continued by the next one', async () => {
    hub.cuts = [70_000, 0, 0, 0, 0, 0]
    expect(await refusal()).toMatch(/broke off within onnx\/model.onnx/)
    expect(readdirSync(blobs()).filter((name) => name.endsWith('.incomplete'))).toHaveLength(1)
    hub.cuts = []
    hub.requests.length = 0
    const { folder } = await fetched()
    expect(hub.requests.find(({ host }) => host === 'storage')?.range).toBe('bytes=70000-')
    expect(readFileSync(join(folder, 'onnx/model.onnx'))).toEqual(bytes(200_000, 1))
  })

  it('begins anew on a server without ranges', async () => {
    hub.cuts = [50_000]
    hub.hasRanges = false
    const { folder } = await fetched()
    expect(readFileSync(join(folder, 'onnx/model.onnx'))).toEqual(bytes(200_000, 1))
  })

  it('with a part that has other bytes begins anew', async () => {
    const file = hub.files.get('onnx/model.onnx') ?? { content: Buffer.alloc(0) }
    mkdirSync(blobs(), { recursive: true })
    writeFileSync(join(blobs(), `${digestOf(file)}.tandem.incomplete`), Buffer.alloc(90_000))
    const { folder } = await fetched()
    expect(readFileSync(join(folder, 'onnx/model.onnx'))).toEqual(file.content)
  })

  it('between which the revision moved fetches the new file', async () => {
    hub.cuts = [70_000, 0, 0, 0, 0, 0]
    await refusal()
    hub.cuts = []
    hub.commit = 'd'.repeat(40)
    hub.files.set('onnx/model.onnx', { content: bytes(100_000, 2), large: true })
    const { folder } = await fetched()
    expect(folder).toMatch(/d{40}$/)
    expect(readFileSync(join(folder, 'onnx/model.onnx'))).toEqual(bytes(100_000, 2))
  })

  it('by a busy server is waited for', async () => {
    let busy = 2
    hub.answer = (request, response) => {
      if (!lineOf(request).startsWith('GET /some-owner') || (busy -= 1) < 0) return false
      response.writeHead(503).end()
      return true
    }
    await fetched()
    expect(lines.filter((line) => line.includes('answered 503'))).toHaveLength(2)
  })
})

describe('a file that is not what the hub names', () => {
  it.each([
    ['large with other bytes', 'onnx/model.onnx', bytes(200_000, 3), /hash .*; the hub names/],
    ['small with other bytes', 'config.json', Buffer.from('{"a": 2}'), /hash .*; the hub names/],
    ['with more bytes', 'onnx/model.onnx', bytes(200_001, 1), /more than the 200000 bytes/],
    ['with fewer bytes', 'onnx/model.onnx', bytes(100, 1), /ended after 100 of 200000/],
  ])('%s is refused, and nothing of it kept', async (_, name, sent, sentence) => {
    const file = hub.files.get(name)
    if (file !== undefined) file.sent = sent
    expect(await refusal()).toMatch(sentence)
    const digest = digestOf(file ?? { content: Buffer.alloc(0) })
    expect(existsSync(join(blobs(), digest))).toBe(false)
  })

  it('is fetched again if the copy in the cache is damaged', async () => {
    const { folder } = await fetched()
    writeFileSync(join(folder, 'onnx/model.onnx'), Buffer.alloc(200_000))
    await fetched()
    expect(readFileSync(join(folder, 'onnx/model.onnx'))).toEqual(bytes(200_000, 1))
  })

  it('has no known hash is refused', async () => {
    hub.answer = ({ method }, response) => {
      if (method !== 'HEAD') return false
      response.writeHead(200, { etag: '"../../x"', 'content-length': '5' }).end()
      return true
    }
    expect(await refusal()).toMatch(/as the ETag of config.json/)
  })
})

describe('a hostile list', () => {
  it.each(['../x', '/etc/x', 'a/../../x', 'a//b', 'C:/x', 'a\\..\\x', 'a\0b', 'a/./b', ''])(
    'with the name %j is refused before anything is fetched',
    async (name) => {
      hub.listed = [name]
      expect(await refusal()).toMatch(/leads out of its folder. Nothing was fetched/)
      expect(hub.requests).toHaveLength(1)
      expect(readdirSync(home)).toEqual([])
    },
  )

  it.each(['[]', '{"sha":"x","siblings":[]}', '{', `{"sha":"${'c'.repeat(40)}","siblings":[{}]}`])(
    'that is %s is refused',
    async (text) => {
      hub.answer = (_, response) => {
        response.end(text)
        return true
      }
      expect(await refusal()).toMatch(/expected the protocol of the hub/)
    },
  )

  it.each(['a', 'a/b/c', '../a', 'a/..', 'a/b@../x', 'a/b@', 'a/b@x@y', 'a--b/c', '/a', 'a b/c'])(
    '%s is no name of a model',
    (name) => {
      expect(hubModel(name)).toBeNull()
    },
  )
})

describe('limits', () => {
  it('tell how much is needed and free before anything is fetched', async () => {
    const sentence = await refusal({ freeBytes: () => Promise.resolve(10 * 2 ** 20) })
    expect(sentence).toMatch(/0.2 MiB are to be fetched into .* 10.0 MiB free.*HF_HUB_CACHE/)
    expect(hub.requests.some(({ host }) => host === 'storage')).toBe(false)
  })

  it('of a disk that fills up on the way keep what has arrived', async () => {
    const handle = await open(join(home, 'x'), 'w')
    const prototype = Object.getPrototypeOf(handle) as typeof handle
    await handle.close()
    const write = vi
      .spyOn(prototype, 'write')
      .mockRejectedValue(Object.assign(new Error('no space left on device'), { code: 'ENOSPC' }))
    expect(await refusal()).toMatch(/disk that holds .* became full.*same command continues/)
    write.mockRestore()
    await fetched()
  })

  it('refuse a file that no graph can have', async () => {
    hub.answer = ({ method }, response) => {
      if (method !== 'HEAD') return false
      const headers = { 'x-linked-etag': `"${'a'.repeat(64)}"`, 'x-linked-size': 3 * 2 ** 30 }
      response.writeHead(302, { ...headers, location: `${hub.storage}/x` }).end()
      return true
    }
    expect(await refusal()).toMatch(/3.0 GiB.*--variant int8/)
  })

  it('of time end a server that says nothing', async () => {
    hub.answer = () => true
    expect(await refusal({ timeoutMs: 200 })).toMatch(/could not be reached \(UND_ERR_HEADERS/)
  })
})

it('Two processes that fetch the same model share its files', async () => {
  hub.cuts = [50_000]
  const both = await Promise.all([fetched(), fetched()])
  expect(both[0]).toEqual(both[1])
  const sent = hub.requests.filter(({ host }) => host === 'storage')
  expect(sent.map(({ range }) => range)).toEqual([null, 'bytes=50000-'])
})

it('A proxy of the environment is used, except for hosts of NO_PROXY', async () => {
  const asked: string[] = []
  const proxy = createServer().on('connect', ({ url = '' }, socket) => {
    asked.push(url)
    const [host, port] = url.split(':')
    const through = connect(Number(port), host, () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n')
      socket.pipe(through).pipe(socket)
    })
    for (const one of [socket, through]) one.on('error', () => undefined)
  })
  await new Promise<void>((done) => proxy.listen(0, '127.0.0.1', done))
  for (const name of ['http_proxy', 'no_proxy', 'all_proxy', 'ALL_PROXY', 'NO_PROXY'])
    vi.stubEnv(name, '')
  vi.stubEnv('HTTP_PROXY', `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`)
  await fetched()
  expect(new Set(asked)).toEqual(
    new Set([hub.endpoint, hub.storage].map((origin) => new URL(origin).host)),
  )
  asked.length = 0
  vi.stubEnv('NO_PROXY', '127.0.0.1')
  await fetched()
  expect(asked).toEqual([])
  proxy.close()
})
