/** One disk that is filled or broken beneath a service, and what clients see of it. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Disk } from '../support/small-disk.js'
import { image, Service } from './service.js'

const ITEMS = 24
/** Each finds all items. */
const SEARCHES = ['q=a+red+ball', 'q=blue&rerank=false', 'q=two+dogs'].map(
  (query) => `${query}&k=100&candidates=100`,
)

export interface Outcome {
  /** Status → how many writes were answered with it meanwhile. */
  writes: Map<number, number>
  /** That were answered with exactly what has been acknowledged, but for the contradictions. */
  searches: number
  /** Sentences: whatever must not be. */
  contradictions: string[]
  /**
   * Milliseconds from room on the disk to the next write that was taken; null where the service had
   * to be started again.
   */
  recoveredMs: number | null
}

/**
 * @param spoil - makes the disk take no writes
 * @param mend - makes it take them again
 * @param restart - whether the service has to be ended before the disk can be mended
 */
export async function tryDisk(
  disk: Disk,
  {
    spoil,
    mend,
    restart,
    rounds,
  }: { spoil: () => unknown; mend: () => unknown; restart: boolean; rounds: number },
): Promise<Outcome> {
  const outcome: Outcome = { writes: new Map(), searches: 0, contradictions: [], recoveredMs: null }
  const contradict = (sentence: string): void => void outcome.contradictions.push(sentence)
  /** What has been acknowledged: id → version. A write that was refused changes nothing. */
  const known = new Map<string, number>()
  let version = 0
  let service = await Service.start(disk.folder)

  const put = async (id: string): Promise<number> => {
    version += 1
    const own = version
    const payload = encodeURIComponent(JSON.stringify({ version: own }))
    const { status } = await service.ask('PUT', `/items/${id}?payload=${payload}`, await image(own))
    if (status === 200 || status === 201) known.set(id, own)
    return status
  }
  const remove = async (id: string): Promise<number> => {
    const { status } = await service.ask('DELETE', `/items/${id}`)
    if (status === 204) known.delete(id)
    return status
  }
  const compare = async (when: string): Promise<void> => {
    for (const sentence of await differences(service, known)) contradict(`${when}: ${sentence}`)
    outcome.searches += SEARCHES.length
  }
  try {
    for (let at = 0; at < ITEMS; at += 1) {
      const status = await put(`item-${at}`)
      if (status !== 201) contradict(`a write was answered with ${status} on a sound disk`)
    }
    await worked(service, '/backups?name=before')
    const backedUp = new Map(known)
    await spoil()
    for (let round = 0; round < rounds; round += 1) {
      // Some may be taken on a full disk, where the store has pages to use again: then they count
      // as any other.
      const ids = [0, 1, 2, 3].map((at) => `new-${(round * 4 + at) % 20}`)
      const statuses = await Promise.all([
        ...ids.map(put),
        put('item-3'),
        remove(`item-${4 + (round % 20)}`),
      ])
      for (const status of statuses)
        outcome.writes.set(status, (outcome.writes.get(status) ?? 0) + 1)
      await compare(`round ${round}`)
    }
    const refusal = await worked(service, '/backups?name=meanwhile').then(
      () => 'it was made',
      String,
    )
    if (!/storage_full|storage_read_only/.test(refusal))
      contradict(`a backup was not refused as it should be: ${refusal}`)
    // A snapshot, each second, has failed by now, or there was nothing new to write.
    await sleep(1500)
    for (const leftover of leftoversIn(disk.folder)) contradict(`${leftover} was left behind`)

    if (restart) {
      await service.kill()
      await mend()
    } else {
      const begun = performance.now()
      await mend()
      while ((await put('after')) !== 201) await sleep(20)
      outcome.recoveredMs = Math.round(performance.now() - begun)
      await service.kill()
    }
    service = await Service.start(disk.folder)
    await compare('after a kill -9')
    await worked(service, '/backups/before/restore')
    known.clear()
    for (const [id, own] of backedUp) known.set(id, own)
    await compare('after a restore')
    return outcome
  } finally {
    await service.kill()
  }
}

/** What searches and the list say that has not been acknowledged, or lack that has. */
async function differences(
  service: Service,
  known: ReadonlyMap<string, number>,
): Promise<string[]> {
  const expected = JSON.stringify([...known].sort())
  const found = await Promise.all(
    [...SEARCHES.map((query) => `/search?${query}`), '/items?limit=1000'].map(async (path) => {
      const { status, body } = await service.ask('GET', path)
      if (status !== 200) return [`${path} was answered with ${status}`]
      const { hits, items } = body as Record<
        'hits' | 'items',
        { id: string; payload: { version: number } }[] | undefined
      >
      const seen = (hits ?? items ?? []).map(({ id, payload }) => [id, payload.version])
      return JSON.stringify(seen.sort()) === expected
        ? []
        : [`${path} does not find what was acknowledged`]
    }),
  )
  return found.flat()
}

/** Begins a backup or restore and waits for its end. @throws where it failed */
async function worked(service: Service, path: string): Promise<void> {
  const { status, body } = await service.ask('POST', path)
  if (status !== 202) throw new Error(`${path} was refused: ${JSON.stringify(body)}`)
  for (;;) {
    const { running, last } = (await service.ask('GET', '/backups')).body as {
      running: unknown
      last: { failure: unknown } | null
    }
    if (running === null && last?.failure === null) return
    if (running === null) throw new Error(`${path} failed: ${JSON.stringify(last)}`)
    await sleep(50)
  }
}

/** Half-written files: graphs that no sidecar names, sidecars aside, unfinished backups. */
function leftoversIn(folder: string): string[] {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  const graphs = files.filter((file) => /hnsw-[^/]*\.bin$/.test(file))
  return [...graphs.slice(1), ...files.filter((file) => /\.new$|\.unfinished/.test(file))].map(
    (file) => join('…', file),
  )
}
