/** A hub of models on the loopback address, and another server for its large files. */
import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface HubFile {
  content: Buffer
  /** Large files lie on the other server and are named by their SHA-256. */
  large?: boolean
  /** What is sent, if it is not `content`. */
  sent?: Buffer
}

export interface HubServer {
  endpoint: string
  /** Host of the large files. */
  storage: string
  files: Map<string, HubFile>
  /** Names that are listed with those of the files. */
  listed: string[]
  commit: string
  /** Answers instead of the usual ones, by the request. */
  answer: (request: IncomingMessage, response: ServerResponse) => boolean
  /** Breaks the next bodies of large files off after so many bytes. */
  cuts: number[]
  hasRanges: boolean
  requests: { host: string; line: string; authorization: string | null; range: string | null }[]
  close(): Promise<void>
}

export const ID = 'some-owner/some-model'

export function digestOf({ content, large }: HubFile): string {
  return large === true
    ? createHash('sha256').update(content).digest('hex')
    : createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex')
}

export async function startHub(): Promise<HubServer> {
  const hub: HubServer = {
    endpoint: '',
    storage: '',
    files: new Map(),
    listed: [],
    commit: 'c'.repeat(40),
    answer: () => false,
    cuts: [],
    hasRanges: true,
    requests: [],
    close: () => Promise.resolve(),
  }
  const note = (host: string, { method, url, headers }: IncomingMessage): void => {
    const { authorization = null, range = null } = headers
    hub.requests.push({ host, line: `${method} ${url}`, authorization, range })
  }
  const front = createServer((request, response) => {
    note('hub', request)
    if (hub.answer(request, response)) return
    const path = decodeURIComponent(request.url ?? '')
    if (path.startsWith(`/api/models/${ID}/revision/`)) {
      const siblings = [...hub.files.keys(), ...hub.listed].map((rfilename) => ({ rfilename }))
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify({ id: ID, sha: hub.commit, siblings }))
      return
    }
    const name = path.replace(`/${ID}/resolve/${hub.commit}/`, '')
    const file = hub.files.get(name)
    if (file === undefined) {
      response
        .writeHead(404, {
          'x-error-code': path.startsWith('/api/') ? 'RepoNotFound' : 'EntryNotFound',
        })
        .end()
      return
    }
    const etag = `"${digestOf(file)}"`
    response.setHeader('x-repo-commit', hub.commit)
    if (file.large !== true) {
      response.setHeader('etag', etag)
      send(request, response, file, hub)
      return
    }
    response.writeHead(302, {
      location: `${hub.storage}/${encodeURIComponent(name)}?signature=1`,
      'x-linked-etag': etag,
      'x-linked-size': String(file.content.length),
      etag: '"of the redirect"',
    })
    response.end()
  })
  const back = createServer((request, response) => {
    note('storage', request)
    const name = decodeURIComponent((request.url ?? '').slice(1).split('?')[0] ?? '')
    const file = hub.files.get(name)
    if (file === undefined) response.writeHead(404).end()
    else send(request, response, file, hub)
  })
  hub.endpoint = await listen(front)
  hub.storage = await listen(back)
  hub.close = async () => {
    for (const server of [front, back]) server.closeAllConnections()
    await Promise.all([front, back].map((server) => new Promise((done) => server.close(done))))
  }
  return hub
}

function send(
  { headers, method }: IncomingMessage,
  response: ServerResponse,
  { content, sent = content, large }: HubFile,
  hub: HubServer,
): void {
  const from = Number(/^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1] ?? 0)
  const isPart = hub.hasRanges && headers.range !== undefined
  const body = isPart ? sent.subarray(from) : sent
  response.writeHead(isPart ? 206 : 200, {
    'content-length': body.length,
    ...(isPart && { 'content-range': `bytes ${from}-${sent.length - 1}/${sent.length}` }),
  })
  const cut = large === true && method === 'GET' ? hub.cuts.shift() : undefined
  if (cut === undefined) response.end(method === 'HEAD' ? undefined : body)
  else response.write(body.subarray(0, cut), () => setTimeout(() => response.destroy(), 20))
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
