/** Fills or breaks the disk of a running service and checks its replies to clients. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Disk } from '../support/small-disk.js'
import { image, Service } from './service.js'

const ITEMS = 24
/** Each returns all items. */
const SEARCHES = ['q=a+red+ball', 'q=blue&rerank=false', 'q=two+dogs'].map(
  (query) => `${query}&k=100&candidates=100`,
)

export interface Outcome {
  /** Status → number of writes with it during the failure. */
  writes: Map<number, number>
  /** Number of searches that were compared with the acknowledged items. */
  searches: number
  /** One sentence for each violation. */
  contradictions: string[]
  /** From space on the disk to the next accepted write; null if the service had to be restarted. */
  recoveredMs: number | null
}

/**
 * @param fail - makes the disk refuse writes
 * @param repair - makes it accept them again
 * @param restart - whether the service must be stopped for the repair
 */
export async function testDiskFailure(
  disk: Disk,
  {
    fail,
    repair,
    restart,
    rounds,
  }: { fail: () => unknown; repair: () => unknown; restart: boolean; rounds: number },
): Promise<Outcome> {
  const outcome: Outcome = { writes: new Map(), searches: 0, contradictions: [], recoveredMs: null }
  const contradict = (sentence: string): void => void outcome.contradictions.push(sentence)
  /** Acknowledged items: id → version. */
  const acknowledged = new Map<string, number>()
  let version = 0
  let service = await Service.start(disk.folder)

  const put = async (id: string): Promise<number> => {
    version += 1
    const itemVersion = version
    const payload = encodeURIComponent(JSON.stringify({ version: itemVersion }))
    const { status } = await service.request(
      'PUT',
      `/items/${id}?payload=${payload}`,
      await image(itemVersion),
    )
    if (status === 200 || status === 201) acknowledged.set(id, itemVersion)
    return status
  }
  const remove = async (id: string): Promise<number> => {
    const { status } = await service.request('DELETE', `/items/${id}`)
    if (status === 204) acknowledged.delete(id)
    return status
  }
  const compare = async (when: string): Promise<void> => {
    for (const sentence of await differences(service, acknowledged))
      contradict(`${when}: ${sentence}`)
    outcome.searches += SEARCHES.length
  }
  try {
    for (let at = 0; at < ITEMS; at += 1) {
      const status = await put(`item-${at}`)
      if (status !== 201) contradict(`a write on a working disk was answered with ${status}`)
    }
    await runJob(service, '/backups?name=before')
    const backedUp = new Map(acknowledged)
    await fail()
    for (let round = 0; round < rounds; round += 1) {
      // A full disk may accept some writes, because the store reuses free pages.
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
    const refusal = await runJob(service, '/backups?name=refused').then(
      () => 'it succeeded',
      String,
    )
    if (!/storage_full|storage_read_only/.test(refusal))
      contradict(`a backup was not refused with the expected error: ${refusal}`)
    // Time for a snapshot, which is written each second and must fail without remains.
    await sleep(1500)
    for (const leftover of leftoversIn(disk.folder)) contradict(`${leftover} remained`)

    if (restart) {
      await service.kill()
      await repair()
    } else {
      const repairTime = performance.now()
      await repair()
      while ((await put('after')) !== 201) await sleep(20)
      outcome.recoveredMs = Math.round(performance.now() - repairTime)
      await service.kill()
    }
    service = await Service.start(disk.folder)
    await compare('after a kill -9')
    await runJob(service, '/backups/before/restore')
    acknowledged.clear()
    for (const [id, itemVersion] of backedUp) acknowledged.set(id, itemVersion)
    await compare('after a restore')
    return outcome
  } finally {
    await service.kill()
  }
}

/** @returns a sentence for each search or list that does not return the acknowledged items */
async function differences(
  service: Service,
  acknowledged: ReadonlyMap<string, number>,
): Promise<string[]> {
  const expected = JSON.stringify([...acknowledged].sort())
  const sentences = await Promise.all(
    [...SEARCHES.map((query) => `/search?${query}`), '/items?limit=1000'].map(async (path) => {
      const { status, body } = await service.request('GET', path)
      if (status !== 200) return [`${path} was answered with ${status}`]
      const { hits, items } = body as Record<
        'hits' | 'items',
        { id: string; payload: { version: number } }[] | undefined
      >
      const returned = (hits ?? items ?? []).map(({ id, payload }) => [id, payload.version])
      return JSON.stringify(returned.sort()) === expected
        ? []
        : [`${path} does not return the acknowledged items`]
    }),
  )
  return sentences.flat()
}

/** Starts a backup or restore and waits for its end. @throws Error if it fails */
async function runJob(service: Service, path: string): Promise<void> {
  const { status, body } = await service.request('POST', path)
  if (status !== 202) throw new Error(`${path} was refused: ${JSON.stringify(body)}`)
  for (;;) {
    const { running, last } = (await service.request('GET', '/backups')).body as {
      running: unknown
      last: { failure: unknown } | null
    }
    if (running === null && last?.failure === null) return
    if (running === null) throw new Error(`${path} failed: ${JSON.stringify(last)}`)
    await sleep(50)
  }
}

/**
 * Incomplete files: snapshots without a sidecar, unfinished sidecars and unfinished backups. A
 * snapshot has a graph, and a file of near copies beside it where there are some.
 */
function leftoversIn(folder: string): string[] {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  const snapshots = new Set(
    files.flatMap((file) => /^(.*hnsw-\d+-\w+)(?:-copies)?\.bin$/.exec(file)?.[1] ?? []),
  )
  return [
    ...[...snapshots].slice(1),
    ...files.filter((file) => /\.new$|\.unfinished/.test(file)),
  ].map((file) => join('…', file))
}
