/** Writes the n-grams of the npm package `eld` in the form that `src/language/ngrams.ts` reads. */
import type { NgramsHead } from '../../src/language/ngrams.js'

interface Database {
  languages: Record<number, string>
  /** Score by the number of the language. */
  ngrams: Record<string, Record<number, number>>
}

/** What the package adds to each score. */
const LEAST = 53
const FIRST_NON_ASCII = 0x80

export const ngramTablePath = new URL('../../vendor/eld/ngrams.bin', import.meta.url)

export async function ngramTable(): Promise<Buffer> {
  const eld = new URL('../../node_modules/eld/src/', import.meta.url)
  const { ngramsData } = (await import(new URL('ngrams/small.js', eld).href)) as {
    ngramsData: Database
  }
  // The package writes each byte that is not ASCII as a letter.
  const { dictionary } = (await import(new URL('dictionary.js', eld).href)) as {
    dictionary: string[]
  }
  const byteOf = (letter: string): number =>
    /[a-z'`]/.test(letter) ? letter.charCodeAt(0) : dictionary.indexOf(letter, FIRST_NON_ASCII)
  const groups: { key: number; scores: [string, number][] }[][] = [[], [], [], []]
  for (const [ngram, scores] of Object.entries(ngramsData.ngrams)) {
    const bytes = Buffer.alloc(4)
    bytes.set([...ngram.trim()].map(byteOf))
    const edges = (ngram.startsWith(' ') ? 1 : 0) + (ngram.endsWith(' ') ? 2 : 0)
    groups[edges]?.push({ key: bytes.readUInt32BE(), scores: Object.entries(scores) })
  }
  const ngrams = groups.flatMap((group) => group.sort((a, b) => a.key - b.key))
  const pairs = ngrams.flatMap(({ scores }) => scores)
  const head: NgramsHead = {
    languages: Object.values(ngramsData.languages),
    groups: groups.map(({ length }) => length),
    least: LEAST,
  }
  const line = JSON.stringify(head)
  const keys = Buffer.alloc(4 * ngrams.length)
  ngrams.forEach(({ key }, at) => keys.writeUInt32LE(key, 4 * at))
  return Buffer.concat([
    Buffer.from(`${line.padEnd(Math.ceil((line.length + 1) / 4) * 4 - 1)}\n`),
    keys,
    Buffer.from(ngrams.map(({ scores }) => scores.length)),
    Buffer.from(pairs.map(([language]) => Number(language))),
    Buffer.from(pairs.map(([, score]) => score)),
  ])
}
