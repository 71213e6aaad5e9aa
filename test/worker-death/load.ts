/**
 * Clients of every kind, and what they know of the right answers: searches compare with what is
 * known to be stored, and a set of items that nobody changes has to be answered as it was before
 * anything was killed.
 */
import sharp from 'sharp'
import { randomNumbers } from '../support/random-embeddings.js'

const STEADY = 20
const CHANGING = 30
const SIMILARITY_TOLERANCE = 1e-4
const MATCH_TOLERANCE = 1e-2
/**
 * A client waits that long between two requests: a service that refuses at once would be asked
 * without end.
 */
const BREATH_MS = 5

type Hits = { id: string; similarity: number; match: number | null }[]
/** What a client has seen of an item: a change that has begun and not ended leaves it open. */
interface Known {
  stored: boolean | null
  changes: number
}

export interface Counts {
  requests: number
  refused: number
  /** Sentences: anything but a right answer or a 503. */
  wrong: string[]
  lastRefusal: number
  acknowledged: number
}

const steadyId = (at: number): string => `steady-${at}`

export class Load {
  readonly counts: Counts = { requests: 0, refused: 0, wrong: [], lastRefusal: 0, acknowledged: 0 }
  readonly #address: string
  readonly #known = new Map<string, Known>()
  readonly #next: () => number
  readonly #before = new Map<string, Hits>()
  #ended = false
  #clients: Promise<void>[] = []

  constructor(address: string, seed: number) {
    this.#address = address
    this.#next = randomNumbers(seed)
  }

  /** Stores the steady items, remembers the answers, and lets the clients begin. */
  async begin(): Promise<void> {
    for (let at = 0; at < STEADY; at += 1) await this.#put(steadyId(at), await plainImage(at * 17))
    for (const url of this.#searches()) {
      const { status, body } = await this.#ask('GET', url)
      if (status !== 200) throw new Error(`before any death ${url} answers ${status}`)
      this.#before.set(url, (body as { hits: Hits }).hits)
    }
    const client = async (work: () => Promise<void>): Promise<void> => {
      while (!this.#ended) {
        await work().catch((error: unknown) => this.counts.wrong.push(String(error)))
        await new Promise((resolve) => setTimeout(resolve, BREATH_MS))
      }
    }
    const works = [
      () => this.#search(),
      () => this.#similar(),
      () => this.#change(),
      () => this.#change(),
      () => this.#embed(),
    ]
    this.#clients = works.map(client)
  }

  async end(): Promise<void> {
    this.#ended = true
    await Promise.all(this.#clients)
  }

  /** Whether what is stored is what was acknowledged. */
  async audit(): Promise<void> {
    const { body } = await this.#ask('GET', '/items?limit=1000')
    const stored = new Set((body as { items: { id: string }[] }).items.map(({ id }) => id))
    for (const [id, known] of this.#known) {
      if (known.stored !== null && known.stored !== stored.has(id)) {
        this.counts.wrong.push(
          `${id} was acknowledged as ${known.stored ? 'stored' : 'removed'}, and is not`,
        )
      }
    }
  }

  #searches(): string[] {
    return [
      '/search?q=a+red+ball&k=1000&candidates=1000&rerank=true',
      '/search?q=blue+sea&k=1000&rerank=false',
    ]
  }

  async #search(): Promise<void> {
    const url = this.#searches()[Math.floor(this.#next() * 2)] as string
    await this.#compare(this.#ask.bind(this, 'GET', url), url, (id) =>
      this.#before.get(url)?.find((hit) => hit.id === id),
    )
  }

  async #similar(): Promise<void> {
    const id = steadyId(Math.floor(this.#next() * STEADY))
    const ask = this.#ask.bind(this, 'POST', '/search', { id, k: 1000 })
    await this.#compare(ask, `like ${id}`, () => undefined, id)
  }

  /**
   * Every item that is known to be stored all the while is a hit, none that is known not to be is,
   * and none comes twice.
   */
  async #compare(
    ask: () => Promise<{ status: number; body: unknown }>,
    what: string,
    expected: (id: string) => Hits[number] | undefined,
    self = '',
  ): Promise<void> {
    const before = new Map([...this.#known].map(([id, known]) => [id, { ...known }]))
    const { status, body } = await ask()
    if (status !== 200) return
    const { hits } = body as { hits: Hits }
    const found = new Map(hits.map((hit) => [hit.id, hit]))
    const say = (sentence: string): void => void this.counts.wrong.push(`${what}: ${sentence}`)
    if (found.size !== hits.length) say('an item comes twice')
    for (const [id, { stored, changes }] of before) {
      const now = this.#known.get(id)
      if (id === self || stored === null || now?.changes !== changes) continue
      if (stored !== found.has(id))
        say(`${id} is ${stored ? 'missing' : 'there again'} among ${hits.length} hits`)
    }
    for (const hit of hits) {
      const was = expected(hit.id)
      if (was === undefined) continue
      if (Math.abs(was.similarity - hit.similarity) > SIMILARITY_TOLERANCE)
        say(`${hit.id} has another similarity`)
      if (Math.abs((was.match ?? 0) - (hit.match ?? 0)) > MATCH_TOLERANCE)
        say(`${hit.id} has another match`)
    }
  }

  async #change(): Promise<void> {
    const number = Math.floor(this.#next() * CHANGING)
    const id = `changing-${number}`
    // One change of an item at a time, so that each acknowledgement tells what is stored.
    if (this.#known.get(id)?.stored === null) return
    if (this.#next() < 0.3) await this.#remove(id)
    else await this.#put(id, await plainImage(number * 11 + 5))
  }

  async #put(id: string, bytes: Buffer): Promise<void> {
    await this.#settle(id, true, [200, 201], () => this.#ask('PUT', `/items/${id}`, bytes))
  }

  async #remove(id: string): Promise<void> {
    await this.#settle(id, false, [204, 404], () => this.#ask('DELETE', `/items/${id}`))
  }

  /** A change that is refused may have happened: what is stored is then read, once that can be. */
  async #settle(
    id: string,
    stored: boolean,
    fine: number[],
    ask: () => Promise<{ status: number }>,
  ): Promise<void> {
    const changes = (this.#known.get(id)?.changes ?? 0) + 1
    this.#known.set(id, { stored: null, changes })
    const { status } = await ask()
    let after: boolean | null = fine.includes(status) ? stored : null
    if (after === null) {
      // Written before or after the refusal, or not at all: none of it later than this read.
      const { status: read } = await this.#ask('GET', `/items/${id}`)
      after = read === 200 ? true : read === 404 ? false : null
    } else this.counts.acknowledged += 1
    this.#known.set(id, { stored: after, changes: changes + 1 })
  }

  async #embed(): Promise<void> {
    const image = (await plainImage(this.#next() * 360)).toString('base64')
    await this.#ask('POST', '/embed', { inputs: [{ text: 'dogs' }, { image }] })
  }

  async #ask(
    method: string,
    path: string,
    content?: object | Buffer,
  ): Promise<{ status: number; body: unknown }> {
    const isImage = content instanceof Buffer
    const type = isImage ? 'image/jpeg' : 'application/json'
    const body =
      content === undefined ? null : isImage ? new Uint8Array(content) : JSON.stringify(content)
    const headers: Record<string, string> = content === undefined ? {} : { 'content-type': type }
    this.counts.requests += 1
    const reply = await fetch(this.#address + path, { method, body, headers })
    const text = await reply.text()
    if (reply.status === 503) {
      this.counts.refused += 1
      this.counts.lastRefusal = performance.now()
      if (reply.headers.get('retry-after') === null)
        this.counts.wrong.push(`${method} ${path}: a 503 without Retry-After`)
    } else if (!reply.ok && reply.status !== 404)
      this.counts.wrong.push(`${method} ${path}: ${reply.status} ${text}`)
    return { status: reply.status, body: text === '' ? null : (JSON.parse(text) as unknown) }
  }
}

function plainImage(hue: number): Promise<Buffer> {
  return sharp({
    create: {
      width: 40,
      height: 30,
      channels: 3,
      background: `hsl(${Math.floor(hue % 360)}, 80%, 50%)`,
    },
  })
    .jpeg()
    .toBuffer()
}
