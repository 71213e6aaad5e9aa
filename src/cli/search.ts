/** `tandem search`: prints the hits for a sentence. */
import type { Command } from 'commander'
import { readConfig } from '../config.js'
import type { Hit, SearchAnswer } from './client.js'
import { wholeNumber, withServiceOptions, type ServiceOptions } from './options.js'
import { withService } from './service.js'
import { printLine, type Terminal } from './terminal.js'

interface SearchFlags extends ServiceOptions {
  k: number
  rerank: boolean
  language?: string
  filter?: string
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
    .option('--json', 'print the answer as JSON')
  withServiceOptions(command).action(async (sentence: string, options: SearchFlags) => {
    const { k, filter, language, json } = options
    // Undefined leaves the choice to the bundle.
    const rerank = options.rerank ? undefined : false
    const answer = await withService(options, readConfig(process.env), (client) =>
      client.search(sentence, { k, rerank, filter, language }),
    )
    if (json !== true) for (const { detail } of answer.notices) printLine(terminal.err, detail)
    printLine(terminal.out, json === true ? JSON.stringify(answer, null, 2) : hitLines(answer))
  })
}

function percent(part: number): string {
  return `${(100 * part).toFixed(1)} %`
}

/** Rank, match if there is one, similarity, id. */
function hitLine({ id, match, similarity }: Hit, at: number): string {
  const matched = match === null ? '' : `match ${percent(match).padStart(7)}  `
  return `${String(at + 1).padStart(3)}  ${matched}similarity ${similarity.toFixed(3).padStart(6)}  ${id}`
}

function hitLines({ hits, timings }: SearchAnswer): string {
  if (hits.length === 0) return 'Nothing found.'
  const total = timings['total'] === undefined ? '' : ` in ${timings['total'].toFixed(0)} ms`
  return [
    ...hits.map(hitLine),
    `${hits.length} ${hits.length === 1 ? 'hit' : 'hits'}${total}`,
  ].join('\n')
}
