/**
 * Texts that another text encoder of the bundle reads than the one for their language, and texts
 * of which the service says that the bundle does not understand them.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { readShards } from '../src/cli/captions/dataset.js'
import { packageFolder } from '../src/config.js'
import { TextReader, type ReadText } from '../src/model/encoders/text-reader.js'
import { languagesOf, textEncodersOf } from '../src/model/bundle/bundle.js'
import { openBundle } from '../src/model/bundle/open.js'
import { findingOf } from '../src/retrieval/notices.js'
import { BenchSkipped, type Bench, type Scale } from './bench.js'

interface Row {
  source: string
  language: string
  /** 0 for whole captions. */
  words: number
  texts: number
  /** Read by the encoder of another language. */
  astray: number
  /** Answered without a match. */
  unmatched: number
  /** Microseconds of one text, the median. */
  micros: number
}

export interface LanguageFigures {
  bundle: string
  understood: readonly string[]
  rows: Row[]
}

const shared = join(packageFolder, '..', 'shared', 'data')
/** The thresholds were set on other shards of the same collections, except the last two. */
const SOURCES: readonly [source: string, shard: string, languages: readonly string[]][] = [
  ['Flickr8k', 'flickr8k-train-0003', ['en', 'zh', 'ar', 'de', 'fr', 'cs']],
  ['Flickr30k', 'flickr30k-train-0001', ['en', 'de', 'fr', 'cs']],
  ['COCO', 'coco-train-0001', ['en', 'vi']],
  ['ADE20K', 'ade-train-0000', ['en']],
  ['product titles', 'fashion-train-0000', ['en']],
]
const PARTS = [1, 2, 3, 4, 6]
const MOST: Record<Scale, number> = { smoke: 50, quick: 1000, full: 10_000 }
const WORD = /[\p{L}\p{M}'’-]+/gu

/** A pseudo-random number below `below`, the same for each run. */
function numbers(): (below: number) => number {
  let state = 1
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

/** Runs of `count` words, one of each caption, each once. */
function partsOf(captions: readonly string[], count: number): string[] {
  const random = numbers()
  const parts = captions.flatMap((caption) => {
    const words = caption.match(WORD) ?? []
    if (words.length < count) return []
    const first = random(words.length - count + 1)
    return [words.slice(first, first + count).join(' ')]
  })
  return [...new Set(parts)]
}

function sample<Value>(values: readonly Value[], most: number): Value[] {
  const step = Math.max(1, values.length / most)
  return Array.from(
    { length: Math.min(most, values.length) },
    (_, at) => values[Math.floor(at * step)] as Value,
  )
}

async function figuresOf(scale: Scale): Promise<LanguageFigures> {
  const missing = SOURCES.map(([, shard]) => join(shared, `${shard}.tar`)).find(
    (path) => !existsSync(path),
  )
  if (missing !== undefined) throw new BenchSkipped(`there is no ${missing}`)
  const folder = join(packageFolder, 'models', 'tandem-small')
  const bundle = await openBundle(folder)
  const reader = await TextReader.open(bundle)
  const understood = languagesOf(bundle.manifest)
  const info = { name: bundle.manifest.name, languages: understood }
  const encoders = textEncodersOf(bundle.manifest)

  const rowOf = async (
    ...[source, language, words, all]: [string, string, number, readonly string[]]
  ): Promise<Row> => {
    const texts = sample(all, MOST[scale])
    const own = encoders.findIndex(({ languages }) => languages.includes(language))
    const times: number[] = []
    let [astray, unmatched] = [0, 0]
    for (const text of texts) {
      const embedding = new Float32Array()
      const begun = performance.now()
      const [read] = await reader.readAll([text], undefined)
      const { encoder, tokenIds } = read as ReadText
      const encoded = { embedding, textTokens: embedding, tokenCount: tokenIds.length, encoder }
      const finding = findingOf(
        info,
        { text },
        { kind: 'text', text: encoded, embedding },
        undefined,
      )
      times.push(performance.now() - begun)
      if (own !== -1 && encoder !== own) astray += 1
      if (finding !== null) unmatched += 1
    }
    const micros = 1000 * (times.sort((a, b) => a - b)[times.length >> 1] ?? 0)
    return { source, language, words, texts: texts.length, astray, unmatched, micros }
  }

  const rows: Row[] = []
  const english: string[] = []
  const others = new Map<string, string[]>()
  for (const [source, shard, languages] of SOURCES) {
    for (const language of languages) {
      const images = await readShards([join(shared, `${shard}.tar`)], language)
      const captions = [...new Set(images.flatMap((image) => image.captions))]
      rows.push(await rowOf(source, language, 0, captions))
      if (language === 'en') english.push(...captions)
      else others.set(language, [...(others.get(language) ?? []), ...captions])
    }
  }
  const spaced = [...others].filter(([language]) => language !== 'zh')
  for (const words of PARTS) {
    rows.push(await rowOf('all', 'en', words, partsOf(english, words)))
    for (const [language, captions] of spaced)
      rows.push(await rowOf('all', language, words, partsOf(captions, words)))
  }
  return { bundle: info.name, understood, rows }
}

export const languagesBench: Bench<LanguageFigures> = {
  name: 'languages',
  title: 'Languages',
  run: figuresOf,
  page: ({ bundle, understood, rows }) => {
    const whole = rows.filter(({ words }) => words === 0)
    const parts = rows.filter(({ words }) => words > 0)
    const languages = [...new Set(parts.map(({ language }) => language))]
    const lengths = [...new Set(parts.map(({ words }) => words))]
    const isUnderstood = (language: string): boolean => understood.includes(language)
    const shareOf = (language: string, words: number): string => {
      const row = parts.find((each) => each.language === language && each.words === words)
      if (row === undefined) return ''
      const unmatched = percent(row.unmatched, row)
      return isUnderstood(language) ? `${percent(row.astray, row)} / ${unmatched}` : unmatched
    }
    const slowest = Math.max(...rows.map(({ micros }) => micros))
    const others = languages.filter((language) => !isUnderstood(language)).join(', ')
    return [
      `\`${bundle}\` understands ${understood.join(', ')}. Share of texts that the encoder of another language reads, and share ` +
        'of texts that [are answered without a match](http-api.md#languages). In a language that the bundle understands each ' +
        'is an error; in another one each text is to be without a match:',
      table(
        ['captions of', 'language', 'texts', 'by another encoder', 'without a match'],
        whole.map((row) => {
          const astray = isUnderstood(row.language) ? percent(row.astray, row) : ''
          const { source, language, texts, unmatched } = row
          return [source, language, String(texts), astray, percent(unmatched, row)]
        }),
      ),
      `Parts of those captions, as short queries: by another encoder / without a match${others === '' ? '' : `; for ${others} without a match`}. ` +
        'Two or three words of one script are another language where one of them is a function word of it, or where they resemble no language:',
      table(
        ['language', ...lengths.map((words) => `${words} ${words === 1 ? 'word' : 'words'}`)],
        languages.map((language) => [
          language,
          ...lengths.map((words) => shareOf(language, words)),
        ]),
      ),
      `The choice and the judgement of a text take ${slowest.toFixed(0)} µs or less (the median of a row).`,
    ].join('\n\n')
  },
}

function percent(count: number, { texts }: Row): string {
  return `${((100 * count) / texts).toFixed(2)} %`
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}
