/**
 * What the clients of the soak ask: mostly searches, some adds, some embeddings, each with its
 * deadline.
 */
import sharp from 'sharp'
import type { Asked } from '../../bench/load.js'

export interface SoakRequest extends Asked {
  kind: 'search' | 'add' | 'embed'
  /** Seconds, as the header Request-Timeout says them. */
  deadlineS: number
}

const SUBJECTS = [
  'a dog',
  'two children',
  'a man in a red coat',
  'a cyclist',
  'a boat',
  'an old house',
  'a black cat',
]
const DOINGS = [
  'jumping over a log',
  'playing on the beach',
  'in the snow',
  'near the water',
  'at night',
  'on a street',
]
/** Replaced again and again, so that the store is as large at the end as at the beginning. */
const IDS = 400
const SEARCH_S = 2
const ADD_S = 10
const EMBED_S = 5

/** Requests by a seed: the same ones for the same seed. */
export class Requests {
  readonly #random: () => number
  readonly #images: readonly Buffer[]

  private constructor(seed: number, images: readonly Buffer[]) {
    this.#random = randomOf(seed)
    this.#images = images
  }

  static async make(seed: number): Promise<Requests> {
    const random = randomOf(seed)
    const images = await Promise.all(Array.from({ length: 24 }, () => image(random)))
    return new Requests(seed, images)
  }

  /** One add for each id. */
  fill(): SoakRequest[] {
    return Array.from({ length: IDS }, (_, at) => this.#add(at))
  }

  /**
   * Quick searches, and the items replaced again and again: many objects and graphs come and go in
   * a short time.
   */
  *warmUp(replacements: number): Generator<SoakRequest> {
    for (let at = 0; at < replacements; at += 1) {
      yield this.#add(at % IDS)
      for (let search = 0; search < 4; search += 1) yield this.#search('&rerank=false')
    }
  }

  /** Eight searches in ten; the adds and large embeddings are bulk. */
  next(): SoakRequest {
    const dice = this.#random()
    if (dice < 0.8) return this.#search()
    if (dice < 0.9) return this.#add(Math.floor(this.#random() * IDS))
    return this.#embed(dice < 0.97 ? 2 : 12)
  }

  #search(more = ''): SoakRequest {
    const path = `/search?q=${encodeURIComponent(this.#sentence())}&k=10${more}`
    return { kind: 'search', method: 'GET', path, headers: timeout(SEARCH_S), deadlineS: SEARCH_S }
  }

  #add(at: number): SoakRequest {
    const body = this.#images[Math.floor(this.#random() * this.#images.length)] as Buffer
    const headers = { ...timeout(ADD_S), 'content-type': 'image/jpeg' }
    return {
      kind: 'add',
      method: 'PUT',
      path: `/items/photo-${at}`,
      headers,
      body,
      deadlineS: ADD_S,
    }
  }

  #embed(count: number): SoakRequest {
    const inputs = Array.from({ length: count }, () => ({ text: this.#sentence() }))
    const headers = { ...timeout(EMBED_S), 'content-type': 'application/json' }
    const body = Buffer.from(JSON.stringify({ inputs }))
    return { kind: 'embed', method: 'POST', path: '/embed', headers, body, deadlineS: EMBED_S }
  }

  #sentence(): string {
    const one = (list: readonly string[]): string =>
      list[Math.floor(this.#random() * list.length)] as string
    return `${one(SUBJECTS)} ${one(DOINGS)}`
  }
}

function timeout(seconds: number): Record<string, string> {
  return { 'request-timeout': String(seconds) }
}

/**
 * A photo-sized JPEG of coarse random colours, as large as those that phones send after their own
 * shrinking.
 */
async function image(random: () => number): Promise<Buffer> {
  const [width, height] = [16, 12]
  const pixels = Buffer.from(
    Array.from({ length: width * height * 3 }, () => Math.floor(random() * 256)),
  )
  return sharp(pixels, { raw: { width, height, channels: 3 } })
    .resize(1280, 960)
    .jpeg({ quality: 85 })
    .toBuffer()
}

/** mulberry32. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}
