/** Checks that a peer computes the same embeddings as Tandem; otherwise speeds do not compare. */
import { cosine } from '../../src/vector-index/normalise.js'
import type { Asked } from '../load.js'
import type { Workload } from './workloads.js'

/**
 * The least cosine of equal embeddings. It is lower for photos: decoders and resampling differ.
 */
const LEAST = { text: 0.999, image: 0.98 } as const
const ASKED = 20

/** The least cosine. @throws Error if it is too low */
export async function agreement(
  workload: Pick<Workload, 'tandem' | 'peer'> & { name: keyof typeof LEAST },
  tandem: string,
  peer: string,
): Promise<number> {
  let least = 1
  for (let at = 0; at < ASKED; at += 1) {
    const ours = embeddingOf(await answered(tandem, workload.tandem(at)))
    const theirs = embeddingOf(await answered(peer, workload.peer(at)))
    least = Math.min(least, cosine(ours, theirs))
  }
  if (least < LEAST[workload.name])
    throw new Error(`the peer at ${peer} makes other embeddings: their cosine is ${least}`)
  return least
}

/** Ids of the hits of each query. */
export async function hitsOf(address: string, asked: readonly Asked[]): Promise<string[][]> {
  const ids: string[][] = []
  for (const one of asked)
    ids.push(
      ((await answered(address, one)) as { hits: { id: string }[] }).hits.map(({ id }) => id),
    )
  return ids
}

async function answered(address: string, { method, path, headers, body }: Asked): Promise<unknown> {
  const reply = await fetch(address + path, {
    method,
    headers,
    ...(body === undefined ? {} : { body: new Uint8Array(body) }),
  })
  if (!reply.ok)
    throw new Error(`${address}${path} answered ${reply.status}: ${await reply.text()}`)
  return reply.json()
}

function embeddingOf(answer: unknown): number[] {
  const { embeddings, data } = answer as Partial<
    Record<'embeddings' | 'data', [{ embedding: number[] }]>
  >
  return (embeddings ?? data)?.[0].embedding ?? []
}
