/**
 * Writes items until it is killed, four writers at once, and prints each id after the store has
 * acknowledged it. Arguments: the folder of the store.
 */
import { openItemStore } from '../../src/item-store/open.js'
import { madeItem } from '../support/made-item.js'

const store = await openItemStore({ folder: process.argv[2] ?? '', fingerprint: 'crash-test' })

async function write(writer: number): Promise<never> {
  for (let batch = 0; ; batch += 1) {
    const ids = [`${writer}-${batch}-a`, `${writer}-${batch}-b`]
    await store.put(ids.map((id) => madeItem(id)))
    process.stdout.write(ids.map((id) => `${id}\n`).join(''))
  }
}

await Promise.all([0, 1, 2, 3].map(write))
