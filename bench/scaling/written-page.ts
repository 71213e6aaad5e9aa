/** docs/scaling.md as the figures and assumptions of this folder make it. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageFolder } from '../../src/config.js'
import type { Assumptions, Figures } from './figures.js'
import { tablesOf } from './page.js'

export const page = join(packageFolder, 'docs', 'scaling.md')

/** The page with each table in its place. @throws Error where the page lacks a place */
export function writtenPage(): string {
  const tables = tablesOf(read('figures.json') as Figures, read('assumptions.json') as Assumptions)
  return Object.entries(tables).reduce(
    (text, [name, lines]) => {
      const [begin, end] = [`<!-- ${name}:begin -->`, `<!-- ${name}:end -->`]
      const [before, rest] = text.split(begin)
      const after = rest?.split(end)[1]
      if (after === undefined) throw new Error(`${page} lacks ${begin} and ${end}`)
      return `${before}${begin}\n${lines.join('\n')}\n${end}${after}`
    },
    readFileSync(page, 'utf8'),
  )
}

function read(name: string): unknown {
  return JSON.parse(readFileSync(join(packageFolder, 'bench', 'scaling', name), 'utf8'))
}
