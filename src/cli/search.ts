/** `tandem search`: prints the hits for a sentence. */
import type { Command } from 'commander'
import { readConfig } from '../config.js'
import type { Client, Hit, SearchAnswer } from './client.js'
import { fileOf } from './indexing/file-payload.js'
import { decimal, wholeNumber, withServiceOptions, type ServiceOptions } from './options.js'
import { withService } from './service.js'
import { printLine, type Terminal } from './terminal/terminal.js'
import { imageProtocol, thumbnail } from './terminal/thumbnails.js'

interface SearchFlags extends ServiceOptions {
  k: number
  rerank: boolean
  language?: string
  filter?: string
  minMatch?: number
  images: boolean
  json?: boolean
}

export function addSearchCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command('search')
    .description('print the images that match a sentence')
    .argument('<sentence>', 'what the image shows')
    .option('-k <hits>', 'number of hits', wholeNumber(1, 1000), 10)
    .option('--no-rerank', 'use only the dual encoder')
    .option(
      '--filter <json>',
      'condition on payloads, such as {"must":[{"key":"year","match":2024}]}',
    )
    .option('--language <code>', 'language of the sentence, such as en, instead of identifying it')
    .option('--min-match <share>', 'leave out hits with a lower match, such as 0.5', decimal(0, 1))
    .option('--no-images', 'no thumbnails; iTerm2, WezTerm, kitty and Ghostty show some')
    .option('--json', 'print the answer as JSON')
  withServiceOptions(command).action(async (sentence: string, options: SearchFlags) => {
    const { k, filter, language, json, minMatch: min_match } = options
    // Undefined leaves the choice to the bundle.
    const rerank = options.rerank ? undefined : false
    const work = async (client: Client): Promise<void> => {
      const answer = await client.search(sentence, { k, rerank, filter, language, min_match })
      if (json === true) return printLine(terminal.out, JSON.stringify(answer, null, 2))
      for (const { detail } of answer.notices) printLine(terminal.err, detail)
      const protocol = options.images && terminal.out.isTTY ? imageProtocol(process.env) : null
      for (const [at, hit] of answer.hits.entries()) {
        printLine(terminal.out, hitLine(hit, at))
        if (protocol !== null)
          printLine(terminal.out, await thumbnail(await client.image(hit.id), protocol))
      }
      printLine(terminal.out, totalLine(answer))
    }
    await withService(options, readConfig(process.env), work, terminal)
  })
}

function percent(part: number): string {
  return `${(100 * part).toFixed(1)} %`
}

/** Rank, match if there is one, similarity, and the file, or the id of an item without one. */
function hitLine({ id, match, similarity, payload }: Hit, at: number): string {
  const matched = match === null ? '' : `match ${percent(match).padStart(7)}  `
  const place = fileOf(payload) ?? id
  return `${String(at + 1).padStart(3)}  ${matched}similarity ${similarity.toFixed(3).padStart(6)}  ${place}`
}

function totalLine({ hits, timings }: SearchAnswer): string {
  if (hits.length === 0) return 'Nothing found.'
  const total = timings['total'] === undefined ? '' : ` in ${timings['total'].toFixed(0)} ms`
  return `${hits.length} ${hits.length === 1 ? 'hit' : 'hits'}${total}`
}
