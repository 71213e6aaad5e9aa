/** Writes vendor/eld/ngrams.bin: run it after an update of the npm package `eld`. */
import { writeFile } from 'node:fs/promises'
import { ngramTable, ngramTablePath } from '../test/support/ngram-table.js'

await writeFile(ngramTablePath, await ngramTable())
