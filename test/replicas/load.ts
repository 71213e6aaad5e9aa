import sharp from 'sharp'

export interface Outcome {
  requests: number
  /** Ids of acknowledged items. */
  acknowledged: string[]
  /** A sentence for each reply but 200 and 201. */
  failed: string[]
  /** Latencies, unordered. */
  milliseconds: number[]
}

export interface LoadOptions {
  address: string
  requests: number
  clients: number
  /** Of the ids, so that two loads do not collide. */
  prefix: string
  /** Called after each reply. */
  onAnswer?: (answered: number) => void
}

const SENTENCES = [
  'a red ball',
  'the blue sea',
  'green grass in the sun',
  'a yellow wall',
  'nothing at all',
]
/** One request in five adds an item. */
const ADD_INTERVAL = 5

/** Sends searches, and adds items with new ids. */
export async function load({
  address,
  requests,
  clients,
  prefix,
  onAnswer = () => undefined,
}: LoadOptions): Promise<Outcome> {
  const images = await Promise.all(Array.from({ length: 12 }, (_, at) => image(at * 30)))
  const outcome: Outcome = { requests: 0, acknowledged: [], failed: [], milliseconds: [] }
  let next = 0
  const client = async (): Promise<void> => {
    for (let at = next++; at < requests; at = next++) {
      const id = `${prefix}-${at}`
      const isAdd = at % ADD_INTERVAL === 0
      const begin = performance.now()
      const replied = isAdd
        ? fetch(`${address}/items/${id}`, {
            method: 'PUT',
            headers: { 'content-type': 'image/jpeg' },
            body: images[at % 12] as Uint8Array<ArrayBuffer>,
          })
        : fetch(
            `${address}/search?k=5&q=${encodeURIComponent(SENTENCES[at % SENTENCES.length] ?? '')}`,
          )
      const result = await replied.then(
        async (reply) => ({ status: reply.status, text: await reply.text() }),
        (error: unknown) => ({ status: 0, text: String(error) }),
      )
      outcome.milliseconds.push(performance.now() - begin)
      outcome.requests += 1
      if (![200, 201].includes(result.status))
        outcome.failed.push(`${isAdd ? `PUT ${id}` : 'search'}: ${result.status} ${result.text}`)
      else if (isAdd) outcome.acknowledged.push(id)
      onAnswer(outcome.requests)
    }
  }
  await Promise.all(Array.from({ length: clients }, client))
  return outcome
}

/** Those of `ids` that a service does not list. */
export async function missing(address: string, ids: readonly string[]): Promise<string[]> {
  const stored = new Set<string>()
  for (let after: string | null = null; ;) {
    const page: string = `${address}/items?limit=1000${after === null ? '' : `&after=${encodeURIComponent(after)}`}`
    const { items, next } = (await (await fetch(page)).json()) as {
      items: { id: string }[]
      next: string | null
    }
    for (const { id } of items) stored.add(id)
    if (next === null) break
    after = next
  }
  return ids.filter((id) => !stored.has(id))
}

export async function image(hue: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = await sharp({
    create: {
      width: 40,
      height: 30,
      channels: 3,
      background: `hsl(${Math.floor(hue % 360)}, 80%, 50%)`,
    },
  })
    .jpeg()
    .toBuffer()
  return new Uint8Array(bytes)
}
