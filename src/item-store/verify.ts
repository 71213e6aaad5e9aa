/** Compares all items of a store with their digests, and the tables with each other. */
import { verifyEncoding } from './encoding.js'
import type { Environment, Records } from './environment.js'
import { digestOf, type Verdict } from './digest.js'
import type { Verification } from './item-store.js'
import { decodeRecord, imageDigestIn, positionOf, verifyRecord } from './record.js'

/** @throws Error if a table cannot be read */
export function verifyItems(environment: Environment): Verification {
  const { items, images, changes, stampedEncodings, position } = environment
  const found: Verification = { damaged: [], withoutDigest: 0, orphans: [] }
  const [serving, ...others] = stampedEncodings as [Records, ...Records[]]
  const known = new Set<string>()
  for (const id of items.getKeys()) {
    known.add(id)
    const verdicts = verdictsOf(id, environment, serving, others)
    if (verdicts.includes('damaged')) found.damaged.push(id)
    else if (verdicts.includes('unknown')) found.withoutDigest += 1
  }
  for (const { key, value: id } of changes.getRange()) {
    const record = items.getBinary(id)
    if (record === undefined || positionOf(record) !== key || key > position)
      found.orphans.push(`change ${String(key)}`)
  }
  for (const table of [images, ...stampedEncodings])
    for (const id of table.getKeys()) if (!known.has(id)) found.orphans.push(id)
  return found
}

function verdictsOf(
  id: string,
  { items, images, changes }: Environment,
  serving: Records,
  others: readonly Records[],
): Verdict[] {
  try {
    const record = items.getBinary(id) as Buffer
    const position = positionOf(record)
    const image = images.getBinary(id)
    const encodings = [serving, ...others].map((table) => table.getBinary(id))
    const isWhole =
      changes.get(position) === id &&
      image?.byteLength === decodeRecord(record).image.size &&
      encodings[0] !== undefined &&
      positionOf(encodings[0]) === position
    if (!isWhole) return ['damaged']
    const digest = imageDigestIn(record)
    return [
      verifyRecord(id, record),
      digest === null ? 'unknown' : digestOf(id, image).equals(digest) ? 'sound' : 'damaged',
      // The encoding of the next bundle may be missing or outdated.
      ...encodings.flatMap((encoding) =>
        encoding === undefined ? [] : verifyEncoding(id, encoding),
      ),
    ]
  } catch {
    // JSON that cannot be parsed, or sizes beyond the record.
    return ['damaged']
  }
}
