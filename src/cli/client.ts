/** Client of the HTTP API for the commands. */
import type { Static } from 'typebox'
import type { BackupsReply, JobReply } from '../http/schemas/backups.js'
import type { EmbedReply } from '../http/schemas/embed.js'
import type { Payload, Problem } from '../http/schemas/fields.js'
import type { ItemReply, ItemsReply } from '../http/schemas/items.js'
import type { ReembeddingReply } from '../http/schemas/reembedding.js'
import type { RerankReply } from '../http/schemas/rerank.js'
import type { SearchBody, SearchReply } from '../http/schemas/search.js'

export type Hit = Static<typeof SearchReply>['hits'][number]
export type SearchAnswer = Static<typeof SearchReply>
export type StoredItem = ItemReply

/** An error reply, or no reply (`status` 0). The message is for the terminal. */
export class ServiceError extends Error {
  override readonly name = 'ServiceError'
  readonly status: number

  constructor(status: number, message: string, options?: ErrorOptions) {
    super(message, options)
    this.status = status
  }
}

export interface SearchOptions {
  k: number
  rerank?: boolean | undefined
  candidates?: number | undefined
  language?: string | undefined
  /** JSON text. */
  filter?: string | undefined
  min_match?: number | undefined
}

const JSON_HEADERS = { 'content-type': 'application/json' }
const MAX_TRIES = 5
/** The service takes 16 KiB of URL and headers. */
const MAX_QUERY_CHARS = 8192

/** Every method throws ServiceError for an error reply, or if the service is unreachable. */
export class Client {
  readonly #base: string
  readonly #headers: Record<string, string>

  /** @param base - address of the service, may have a path: `http://127.0.0.1:3000` */
  constructor(base: string, apiKey?: string) {
    this.#base = base.endsWith('/') ? base : `${base}/`
    this.#headers = apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }
  }

  async isAlive(): Promise<boolean> {
    return this.#once('health/live', {}).then(
      (answer) => answer.ok,
      () => false,
    )
  }

  /** Stores an image; resolves when it is durable. */
  async put(id: string, image: Uint8Array, mime: string, payload: Payload): Promise<void> {
    const path = `items/${encodeURIComponent(id)}`
    const json = JSON.stringify(payload)
    const query = new URLSearchParams({ payload: json }).toString()
    if (query.length <= MAX_QUERY_CHARS) {
      const headers = { 'content-type': mime }
      await this.#send(`${path}?${query}`, { method: 'PUT', body: image, headers })
      return
    }
    const form = new FormData()
    form.set('payload', json)
    form.set('image', new Blob([image], { type: mime }), 'image')
    await this.#send(path, { method: 'PUT', body: form })
  }

  /** The item; undefined if there is none. */
  async item(id: string): Promise<StoredItem | undefined> {
    try {
      return (await this.#json(`items/${encodeURIComponent(id)}`)) as StoredItem
    } catch (error) {
      if (error instanceof ServiceError && error.status === 404) return undefined
      throw error
    }
  }

  /** Removes an item; does nothing if there is none. */
  async remove(id: string): Promise<void> {
    try {
      await this.#send(`items/${encodeURIComponent(id)}`, { method: 'DELETE' })
    } catch (error) {
      if (!(error instanceof ServiceError && error.status === 404)) throw error
    }
  }

  /** The stored JPEG of an item. */
  async image(id: string): Promise<Uint8Array> {
    return new Uint8Array(await (await this.#send(imagePath(id), {})).arrayBuffer())
  }

  imageUrl(id: string): string {
    return new URL(imagePath(id), this.#base).href
  }

  /** Every stored item, by id. */
  async *items(): AsyncGenerator<StoredItem> {
    let after: string | null = null
    do {
      const options = new URLSearchParams({ limit: '1000', ...(after === null ? {} : { after }) })
      const page = (await this.#json(`items?${options.toString()}`)) as Static<typeof ItemsReply>
      yield* page.items
      after = page.next
    } while (after !== null)
  }

  async beginBackup(name: string | undefined): Promise<JobReply> {
    const query = name === undefined ? '' : `?${new URLSearchParams({ name }).toString()}`
    return (await this.#json(`backups${query}`, { method: 'POST' })) as JobReply
  }

  async beginRestore(name: string): Promise<JobReply> {
    return (await this.#json(`backups/${encodeURIComponent(name)}/restore`, {
      method: 'POST',
    })) as JobReply
  }

  /** The backups, the running job, and the outcome of the last one. */
  async backups(): Promise<BackupsReply> {
    return (await this.#json('backups')) as BackupsReply
  }

  /** The bundle that serves, and the one that is being prepared. */
  async reembedding(): Promise<ReembeddingReply> {
    return (await this.#json('reembedding')) as ReembeddingReply
  }

  async startReembedding(model: string): Promise<void> {
    await this.#send('reembedding', {
      method: 'PUT',
      body: JSON.stringify({ model }),
      headers: JSON_HEADERS,
    })
  }

  async promote(): Promise<void> {
    await this.#send('reembedding/promote', { method: 'POST' })
  }

  async endReembedding(): Promise<void> {
    await this.#send('reembedding', { method: 'DELETE' })
  }

  /** `GET /search`. */
  async search(sentence: string, options: SearchOptions): Promise<SearchAnswer> {
    const query = new URLSearchParams({ q: sentence })
    for (const [name, value] of Object.entries(options))
      if (value !== undefined) query.set(name, String(value))
    return (await this.#json(`search?${query.toString()}`)) as SearchAnswer
  }

  /** `POST /search`: by a text, an image or an item. */
  async searchBy(body: SearchBody): Promise<SearchAnswer> {
    const init = { method: 'POST', body: JSON.stringify(body), headers: JSON_HEADERS }
    return (await this.#json('search', init)) as SearchAnswer
  }

  /** The embeddings of `inputs`, in order. */
  async embed(inputs: readonly ({ text: string } | { image: string })[]): Promise<Float32Array[]> {
    const { embeddings } = await this.#embed(inputs)
    return embeddings.map(({ embedding }) => {
      const bytes = Buffer.from(embedding as string, 'base64')
      return new Float32Array(
        bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength),
      )
    })
  }

  /** The name of the bundle that serves. */
  async bundleName(): Promise<string> {
    return (await this.#embed([{ text: 'an image' }])).model
  }

  /** Indices of `texts` by match with a stored item, best first. */
  async rerankTexts(id: string, texts: readonly string[], language: string): Promise<number[]> {
    const body = JSON.stringify({ query: { id }, documents: texts, language })
    const reply = (await this.#json('rerank', {
      method: 'POST',
      body,
      headers: JSON_HEADERS,
    })) as RerankReply
    return reply.results.map(({ index }) => index)
  }

  async #embed(
    inputs: readonly ({ text: string } | { image: string })[],
  ): Promise<Static<typeof EmbedReply>> {
    const body = JSON.stringify({ inputs, encoding_format: 'base64' })
    const reply = await this.#json('embed', { method: 'POST', body, headers: JSON_HEADERS })
    return reply as Static<typeof EmbedReply>
  }

  async #json(path: string, init: RequestInit = {}): Promise<unknown> {
    return (await this.#send(path, init)).json()
  }

  /** Repeats the request after the time in Retry-After of a 429 or 503. */
  async #send(path: string, init: RequestInit): Promise<Response> {
    for (let tries = 1; ; tries += 1) {
      const answer = await this.#once(path, init)
      if (answer.ok) return answer
      const waitS = Number(answer.headers.get('retry-after') ?? Number.NaN)
      if (![429, 503].includes(answer.status) || !(waitS >= 0) || tries === MAX_TRIES)
        throw await refusal(answer)
      await answer.body?.cancel()
      await new Promise((done) => setTimeout(done, waitS * 1000))
    }
  }

  async #once(path: string, init: RequestInit): Promise<Response> {
    try {
      const headers = { ...(init.headers as Record<string, string> | undefined), ...this.#headers }
      return await fetch(new URL(path, this.#base), { ...init, headers })
    } catch (error) {
      const cause =
        (error as Error).cause instanceof Error
          ? ((error as Error).cause as Error).message
          : String(error)
      throw new ServiceError(0, `No service answers at ${this.#base} (${cause}).`, { cause: error })
    }
  }
}

function imagePath(id: string): string {
  return `items/${encodeURIComponent(id)}/image`
}

async function refusal(answer: Response): Promise<ServiceError> {
  const body = await answer.text()
  try {
    const problem = JSON.parse(body) as Partial<Problem>
    return new ServiceError(answer.status, problem.detail ?? problem.title ?? body)
  } catch {
    return new ServiceError(answer.status, `The service answered with status ${answer.status}.`)
  }
}
