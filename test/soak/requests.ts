/** The requests of the soak, and their outcomes. */
import sharp from 'sharp'
import type { Answer, Asked } from '../../bench/load.js'
import { randomNumbers } from '../support/random-embeddings.js'

export interface SoakRequest extends Asked {
  kind: 'search' | 'add' | 'embed'
  /** Seconds, sent as the header Request-Timeout. */
  deadlineS: number
}

export interface Outcome {
  kind: SoakRequest['kind']
  /** Answered in time, too late, refused at once, or failed in another way. */
  fate: 'answered' | 'late' | 'refused' | 'failed'
  status: number
  milliseconds: number
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
const ACTIONS = [
  'jumping over a log',
  'playing on the beach',
  'in the snow',
  'near the water',
  'at night',
  'on a street',
]
/** Items are replaced repeatedly, so that the store keeps its size. */
const IDS = 400
const SEARCH_S = 2
const ADD_S = 10
const EMBED_S = 5

/** Mostly searches, some adds and embeddings; the same ones for the same seed. */
export class Requests {
  readonly #random: () => number
  readonly #images: readonly Buffer[]

  private constructor(seed: number, images: readonly Buffer[]) {
    this.#random = randomNumbers(seed)
    this.#images = images
  }

  static async make(seed: number): Promise<Requests> {
    const random = randomNumbers(seed)
    const images = await Promise.all(Array.from({ length: 24 }, () => image(random)))
    return new Requests(seed, images)
  }

  /** One add for each id. */
  fill(): SoakRequest[] {
    return Array.from({ length: IDS }, (_, at) => this.#add(at))
  }

  /** Replaces items and searches without reranking: creates and drops many objects and graphs. */
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
    const pick = (list: readonly string[]): string =>
      list[Math.floor(this.#random() * list.length)] as string
    return `${pick(SUBJECTS)} ${pick(ACTIONS)}`
  }
}

export function outcomeOf(
  { kind, deadlineS }: SoakRequest,
  { status, said, milliseconds }: Answer,
): Outcome {
  const code = /"code":"(\w+)"/.exec(said)?.[1] ?? ''
  return { kind, status, milliseconds, fate: fateOf(status, code, milliseconds / 1000, deadlineS) }
}

function fateOf(status: number, code: string, seconds: number, deadlineS: number): Outcome['fate'] {
  if (code === 'overloaded' || code === 'rate_limited') return 'refused'
  if (code === 'timed_out') return 'late'
  if (status < 200 || status > 299) return 'failed'
  return seconds <= deadlineS ? 'answered' : 'late'
}

function timeout(seconds: number): Record<string, string> {
  return { 'request-timeout': String(seconds) }
}

/** A JPEG of coarse random colours, of the size that phones send. */
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
