/** Writes the tables of docs/reliability.md; each reliability run writes its own. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageFolder } from '../src/config.js'

const page = join(packageFolder, 'docs', 'reliability.md')

/** Puts `lines` between `<!-- name:begin -->` and `<!-- name:end -->`. */
export function replaceBetween(name: string, lines: readonly string[]): void {
  const [begin, end] = [`<!-- ${name}:begin -->`, `<!-- ${name}:end -->`]
  const [before, rest] = readFileSync(page, 'utf8').split(begin)
  const after = rest?.split(end)[1]
  if (after === undefined) throw new Error(`${page} lacks ${begin} and ${end}`)
  writeFileSync(page, `${before}${begin}\n${lines.join('\n')}\n${end}${after}`)
}
