/**
 * Program that writes items with four concurrent writers until it is killed. It prints each id
 * after the store has acknowledged it. Argument: the folder of the store.
 */
import { openItemStore } from '../../src/item-store/open.js'
import { testItem } from '../support/test-item.js'

const store = await openItemStore({ folder: process.argv[2] ?? '', fingerprint: 'crash-test' })

async function write(writer: number): Promise<never> {
  for (let batch = 0; ; batch += 1) {
    const ids = [`${writer}-${batch}-a`, `${writer}-${batch}-b`]
    await store.put(ids.map((id) => testItem(id)))
    process.stdout.write(ids.map((id) => `${id}\n`).join(''))
  }
}

await Promise.all([0, 1, 2, 3].map(write))
