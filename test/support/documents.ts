/** The commands that the documents show, in their fenced blocks of shell. */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageFolder } from '../../src/config.js'

/** Documents with commands for a reader, relative to the repository. */
export const documents: readonly string[] = [
  'README.md',
  'CONTRIBUTING.md',
  'training/README.md',
  ...readdirSync(join(packageFolder, 'docs'))
    .filter((name) => name.endsWith('.md') && !name.endsWith('.zh.md'))
    .map((name) => `docs/${name}`),
]

/** @returns the fenced blocks of shell of a document, each with its commands */
export function shellBlocks(document: string): string[][] {
  const text = readFileSync(join(packageFolder, document), 'utf8')
  return [...text.matchAll(/^```sh\n([^]*?)^```/gm)].map(([, block = '']) => commandsOf(block))
}

/** Joins continued lines, quotes over lines and here-documents; leaves out lines of comment. */
function commandsOf(block: string): string[] {
  const commands: string[] = []
  let open = ''
  for (const line of block.split('\n')) {
    open += open === '' ? line : `\n${line}`
    if (open.trim() === '' || /^\s*#/.test(open)) open = ''
    else if (isComplete(open)) {
      commands.push(open)
      open = ''
    }
  }
  if (open !== '') throw new Error(`A command has no end: ${open}`)
  return commands
}

function isComplete(command: string): boolean {
  if (/\\$/.test(command)) return false
  const marker = /<<(\w+)/.exec(command)?.[1]
  if (marker !== undefined) return new RegExp(`^${marker}$`, 'm').test(command)
  return command.replace(/\\'/g, '').split("'").length % 2 === 1
}

/** @returns the words that a shell makes of the arguments of `program` in a command */
export function argumentsOf(program: string, command: string, home = '/home/reader'): string[] {
  const script = `${program}() { printf '%s\\0' "$@"; }; ${command}`
  const printed = execFileSync('bash', ['-c', script], {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], HOME: home },
  })
  return printed.split('\0').slice(0, -1)
}
