/** Messages that were once answered wrongly, stored as files; the tests send them again. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageFolder } from '../../src/config.js'
import type { Case, Finding } from './campaign.js'

const folder = join(packageFolder, 'test', 'fuzz', 'corpus')

/** @returns the path of the file */
export function keep({ name, message }: Pick<Finding, 'name' | 'message'>): string {
  mkdirSync(folder, { recursive: true })
  const path = join(folder, `${name}.http`)
  writeFileSync(path, message)
  return path
}

export function keptCases(): Case[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.http'))
    .map((name) => ({ kind: name, message: readFileSync(join(folder, name)), isWhole: false }))
}
