/**
 * Texts of which the service says that the bundle does not understand them: captions in other
 * languages, and English captions and parts of them, where it is an error.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readShards } from '../src/cli/captions/dataset.js'
import { packageFolder } from '../src/config.js'
import { Tokenizer } from '../src/model/encoders/tokenizer.js'
import { openBundle } from '../src/model/bundle/open.js'
import { findingOf } from '../src/retrieval/notices.js'
import { BenchSkipped, type Bench, type Scale } from './bench.js'

interface Row {
  source: string
  language: string
  /** 0 for whole captions. */
  words: number
  texts: number
  found: number
  /** Microseconds of one text, the median. */
  micros: number
}

export interface LanguageFigures {
  bundle: string
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
  const { manifest } = await openBundle(folder)
  const { max_tokens: maxTokens } = manifest.text_encoder
  const tokenizer = new Tokenizer(readFileSync(join(folder, 'tokenizer.json')), maxTokens)

  const rowOf = (source: string, language: string, words: number, all: readonly string[]): Row => {
    const texts = sample(all, MOST[scale])
    const times: number[] = []
    let found = 0
    for (const text of texts) {
      const embedding = new Float32Array()
      const tokenCount = tokenizer.encode(text).length
      const encoded = { embedding, textTokens: embedding, tokenCount, encoder: 0 }
      const begun = performance.now()
      const finding = findingOf(
        manifest,
        { text },
        { kind: 'text', text: encoded, embedding },
        undefined,
      )
      times.push(performance.now() - begun)
      if (finding !== null) found += 1
    }
    const micros = 1000 * (times.sort((a, b) => a - b)[times.length >> 1] ?? 0)
    return { source, language, words, texts: texts.length, found, micros }
  }

  const rows: Row[] = []
  const english: string[] = []
  const others = new Map<string, string[]>()
  for (const [source, shard, languages] of SOURCES) {
    for (const language of languages) {
      const images = await readShards([join(shared, `${shard}.tar`)], language)
      const captions = [...new Set(images.flatMap((image) => image.captions))]
      rows.push(rowOf(source, language, 0, captions))
      if (language === 'en') english.push(...captions)
      else others.set(language, [...(others.get(language) ?? []), ...captions])
    }
  }
  const spaced = [...others].filter(([language]) => language !== 'zh')
  for (const words of PARTS) {
    rows.push(rowOf('all', 'en', words, partsOf(english, words)))
    for (const [language, captions] of spaced)
      rows.push(rowOf('all', language, words, partsOf(captions, words)))
  }
  return { bundle: manifest.name, rows }
}

export const languagesBench: Bench<LanguageFigures> = {
  name: 'languages',
  title: 'Languages',
  run: figuresOf,
  page: ({ bundle, rows }) => {
    const whole = rows.filter(({ words }) => words === 0)
    const parts = rows.filter(({ words }) => words > 0)
    const languages = [...new Set(parts.map(({ language }) => language))]
    const lengths = [...new Set(parts.map(({ words }) => words))]
    const shareOf = (language: string, words: number): string => {
      const row = parts.find((each) => each.language === language && each.words === words)
      return row === undefined ? '' : percent(row)
    }
    const slowest = Math.max(...rows.map(({ micros }) => micros))
    return [
      `\`${bundle}\` understands English. Share of texts that [are answered without a match](http-api.md#languages), because ` +
        'they seem to be in another language or in none. For English each is an error, for the others each that is missing:',
      table(
        ['captions of', 'language', 'texts', 'without a match'],
        whole.map((row) => [row.source, row.language, String(row.texts), percent(row)]),
      ),
      `Parts of those captions, as short queries. Two or three words of one script are another language where one of them is a function word of it, or where they resemble no language:`,
      table(
        ['language', ...lengths.map((words) => `${words} ${words === 1 ? 'word' : 'words'}`)],
        languages.map((language) => [
          language,
          ...lengths.map((words) => shareOf(language, words)),
        ]),
      ),
      `The judgement of a text takes ${slowest.toFixed(0)} µs or less (the median of a row).`,
    ].join('\n\n')
  },
}

function percent({ found, texts }: Row): string {
  return `${((100 * found) / texts).toFixed(2)} %`
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}
