/** Requests to the hub, through a proxy where the environment names one. */
import { getProxyForUrl } from 'proxy-from-env'
import { Agent, ProxyAgent, request, type Dispatcher } from 'undici'
import { HubError, type HubModel, type HubSettings } from './hub.js'

/** What the hub says of a file. */
export interface RemoteFile {
  name: string
  bytes: number
  /** SHA-256 of a large file, SHA-1 of git's blob of a small one; in hexadecimal. */
  etag: string
}

/** The connection failed or the server was too busy: a later attempt may succeed. */
export class TransientError extends HubError {
  /** Seconds that the server asks for. */
  readonly retryAfter: number

  constructor(message: string, retryAfter = 0) {
    super(message)
    this.retryAfter = retryAfter
  }
}

const TIMEOUT_MS = 30_000
const MAX_REDIRECTS = 5
const MAX_LIST_BYTES = 64 * 2 ** 20
const REDIRECTS = new Set([301, 302, 303, 307, 308])
/** A redirect on the hub itself may have them, and its target not. */
const LINKED = ['x-linked-etag', 'x-linked-size']
const ETAG = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/
const COMMIT = /^[0-9a-f]{40}$/

export class HubClient {
  readonly #settings: HubSettings
  readonly #timeouts: { headersTimeout: number; bodyTimeout: number; connectTimeout: number }
  readonly #agents = new Map<string, Dispatcher>()

  constructor(settings: HubSettings, timeoutMs = TIMEOUT_MS) {
    this.#settings = settings
    this.#timeouts = {
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
      connectTimeout: timeoutMs,
    }
  }

  /**
   * The commit of a revision and the names of its files.
   * @throws HubError when the model or revision is missing or not readable with the token
   */
  async describe(model: HubModel): Promise<{ commit: string; names: string[] }> {
    const { id, revision } = model
    const url = `${this.#settings.endpoint}/api/models/${id}/revision/${encodeURIComponent(revision)}`
    const { status, headers, body } = await this.#follow('GET', url, {}, false)
    if (status !== 200) throw await this.#refusal(model, status, headers, body)
    const pieces: Buffer[] = []
    let length = 0
    for await (const piece of body as AsyncIterable<Buffer>) {
      length += piece.length
      if (length > MAX_LIST_BYTES) throw this.#unlike(`a description of more than ${length} bytes`)
      pieces.push(piece)
    }
    return this.#described(Buffer.concat(pieces).toString('utf8'))
  }

  /**
   * @param commit - of the model
   * @throws HubError when the file is missing or the hub does not say its size and hash
   */
  async head(model: HubModel, commit: string, name: string): Promise<RemoteFile> {
    const url = this.#resolve(model, commit, name)
    const { status, headers, body } = await this.#follow('HEAD', url, {}, true)
    await body.dump()
    if (status !== 200 && !REDIRECTS.has(status))
      throw await this.#refusal(model, status, headers, body, name)
    const linked = single(headers['x-linked-etag']) ?? single(headers.etag) ?? ''
    const etag = linked.replace(/^W\//, '').replace(/^"(.*)"$/, '$1')
    // A redirect has the length of its own body.
    const length = REDIRECTS.has(status) ? undefined : single(headers['content-length'])
    const bytes = Number(single(headers['x-linked-size']) ?? length ?? Number.NaN)
    if (!ETAG.test(etag)) throw this.#unlike(`"${etag.slice(0, 80)}" as the ETag of ${name}`)
    if (!Number.isSafeInteger(bytes) || bytes < 0) throw this.#unlike(`no size of ${name}`)
    return { name, bytes, etag }
  }

  /**
   * The bytes of a file from `start` on, or from its beginning where the server has no ranges.
   * @throws HubError
   */
  async open(
    model: HubModel,
    commit: string,
    name: string,
    start: number,
  ): Promise<{ start: number; body: AsyncIterable<Buffer> }> {
    const range = start > 0 ? { range: `bytes=${start}-` } : {}
    const url = this.#resolve(model, commit, name)
    const { status, headers, body } = await this.#follow('GET', url, range, false)
    if (status === 206) {
      const from = /^bytes (\d+)-/.exec(single(headers['content-range']) ?? '')?.[1]
      if (Number(from) === start) return { start, body: body as AsyncIterable<Buffer> }
    }
    if (status === 200) return { start: 0, body: body as AsyncIterable<Buffer> }
    await body.dump()
    if (start > 0 && (status === 206 || status === 416)) return this.open(model, commit, name, 0)
    throw await this.#refusal(model, status, headers, body, name)
  }

  async close(): Promise<void> {
    await Promise.all([...this.#agents.values()].map((agent) => agent.destroy()))
  }

  #resolve({ id }: HubModel, commit: string, name: string): string {
    const path = name.split('/').map(encodeURIComponent).join('/')
    return `${this.#settings.endpoint}/${id}/resolve/${commit}/${path}`
  }

  /**
   * Follows redirects. The token goes to the endpoint alone, and not back to it from elsewhere.
   * @param isHub - stops before another server, which knows nothing of the hub's headers
   */
  async #follow(
    method: 'GET' | 'HEAD',
    address: string,
    headers: Record<string, string>,
    isHub: boolean,
  ): Promise<Reply> {
    let url = new URL(address)
    let isTrusted = true
    const linked: Headers = {}
    for (let count = 0; count <= MAX_REDIRECTS; count += 1) {
      const sent = await this.#send(method, url, headers, isTrusted)
      for (const name of LINKED) linked[name] ??= sent.headers[name]
      const reply = { ...sent, headers: { ...sent.headers, ...linked } }
      const location = single(reply.headers.location)
      if (!REDIRECTS.has(reply.status) || location === undefined) return reply
      if (!URL.canParse(location, url.href)) throw this.#unlike('a redirect without an address')
      const next = new URL(location, url)
      if (
        !/^https?:$/.test(next.protocol) ||
        (url.protocol === 'https:' && next.protocol !== 'https:')
      )
        throw this.#unlike(`a redirect to ${next.protocol}//${next.host}`)
      const isOwn = next.origin === url.origin
      if (isHub && !isOwn) return reply
      await reply.body.dump()
      isTrusted &&= isOwn
      url = next
    }
    throw this.#unlike(`more than ${MAX_REDIRECTS} redirects`)
  }

  async #send(
    method: 'GET' | 'HEAD',
    url: URL,
    headers: Record<string, string>,
    isTrusted: boolean,
  ): Promise<Reply> {
    const { token } = this.#settings
    try {
      const reply = await request(url, {
        method,
        dispatcher: this.#agentFor(url),
        headers: {
          'user-agent': 'tandem',
          'accept-encoding': 'identity',
          ...headers,
          ...(isTrusted && token !== null && { authorization: `Bearer ${token}` }),
        },
      })
      // Broken off bodies that nobody reads any more.
      reply.body.on('error', () => undefined)
      return { status: reply.statusCode, headers: reply.headers, body: reply.body }
    } catch (error) {
      const { code = '', message } = error as NodeJS.ErrnoException
      throw new TransientError(
        `${url.host} could not be reached (${code === '' ? message : code}). What the cache has is used with HF_HUB_OFFLINE=1.`,
      )
    }
  }

  #agentFor(url: URL): Dispatcher {
    const proxy = getProxyForUrl(url.href)
    const known = this.#agents.get(proxy)
    if (known !== undefined) return known
    const agent =
      proxy === ''
        ? new Agent(this.#timeouts)
        : new ProxyAgent({ uri: proxy, ...this.#timeouts, requestTls: { timeout: TIMEOUT_MS } })
    this.#agents.set(proxy, agent)
    return agent
  }

  #described(text: string): { commit: string; names: string[] } {
    let description: { sha?: unknown; siblings?: unknown }
    try {
      description = JSON.parse(text) as typeof description
    } catch {
      throw this.#unlike('a description that is not JSON')
    }
    const { sha, siblings } = description ?? {}
    if (typeof sha !== 'string' || !COMMIT.test(sha) || !Array.isArray(siblings))
      throw this.#unlike('a description without commit and files')
    const names = siblings.map((one: { rfilename?: unknown } | null) => one?.rfilename)
    if (!names.every((name) => typeof name === 'string'))
      throw this.#unlike('a description with files that have no names')
    return { commit: sha, names }
  }

  #unlike(what: string): HubError {
    return new HubError(
      `${this.#settings.endpoint} sent ${what}; expected the protocol of the hub.`,
    )
  }

  async #refusal(
    { id, revision }: HubModel,
    status: number,
    headers: Headers,
    body: Dispatcher.ResponseData['body'],
    name?: string,
  ): Promise<HubError> {
    await body.dump().catch(() => undefined)
    const { endpoint, token } = this.#settings
    const code = single(headers['x-error-code']) ?? ''
    const at = `${endpoint}/${id}`
    if (status === 429 || status >= 500) {
      const seconds = Number(single(headers['retry-after']) ?? 0)
      return new TransientError(
        `${endpoint} answered ${status}${status === 429 ? ', too many requests' : ''}.`,
        Number.isFinite(seconds) ? seconds : 0,
      )
    }
    if (code === 'GatedRepo')
      return new HubError(
        `${id} is gated: accept its conditions at ${at}${token === null ? ', and set HF_TOKEN to a token of that account' : ' with the account of your token'}.`,
      )
    if (code === 'RevisionNotFound')
      return new HubError(`${id} has no branch, tag or commit "${revision}".`)
    if (name !== undefined && (code === 'EntryNotFound' || status === 404))
      return new HubError(`${id} has no file ${name} at ${revision}.`)
    if (status === 401 || status === 404 || code === 'RepoNotFound')
      return new HubError(
        `${endpoint} has no model ${id}, or it is private: ${token === null ? 'set HF_TOKEN to a token that may read it' : 'the token may not read it'}.`,
      )
    if (status === 403)
      return new HubError(
        `${endpoint} refuses ${name ?? id} (403)${token === null ? ': set HF_TOKEN to a token that may read it' : ': the token may not read it'}.`,
      )
    return new HubError(`${endpoint} answered ${status} for ${name ?? id}.`)
  }
}

type Headers = Dispatcher.ResponseData['headers']

interface Reply {
  status: number
  headers: Headers
  body: Dispatcher.ResponseData['body']
}

function single(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value
}
