/** Models of the hub that are worth adding: `models/known-models.json`, with the sources. */
import { readFile } from 'node:fs/promises'
import { totalmem } from 'node:os'
import { allowsCommerce } from './license.js'

export interface KnownModels {
  /** By their keys, what a figure comes from. */
  sources: Record<string, string>
  models: KnownModel[]
}

export interface KnownModel {
  id: string
  what: string
  languages: string[]
  license: string
  /** Of the service that the source measured. */
  memory_mib?: { value: number; source: string }
  /** Of the files of one variant. */
  size_mb?: { variant: string; value: number; source: string }
  recall: { what: string; value: string; source: string }[]
}

const MIB = 2 ** 20

export async function knownModels(path: string): Promise<KnownModels> {
  return JSON.parse(await readFile(path, 'utf8')) as KnownModels
}

/** Bytes that this process may use: those of the machine, or of its container. */
export function machineMemory(): number {
  const limit = process.constrainedMemory()
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem()
}

/**
 * Two lines for each model, and the sources.
 * @param memory - of this machine, in bytes
 */
export function knownModelLines({ sources, models }: KnownModels, memory: number): string[] {
  const used = new Set<string>()
  const cited = (text: string, source: string): string => {
    used.add(source)
    return `${text} [${source}]`
  }
  const lines = models.flatMap(
    ({ id, what, languages, license, memory_mib: needs, size_mb: size, recall }) => {
      const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`
      const fits = (bytes: number): string =>
        bytes <= memory
          ? 'fits this machine'
          : `does not fit this machine, which has ${gib(memory)}`
      const facts = [
        languages.includes('mul') ? 'many languages' : languages.join(', '),
        `${license}${allowsCommerce(license) === false ? ' (forbids commercial use)' : ''}`,
        ...(size === undefined ? [] : [cited(`${size.value} MB as ${size.variant}`, size.source)]),
        needs === undefined
          ? 'memory not known'
          : `${cited(`memory ${gib(needs.value * MIB)}`, needs.source)}, ${fits(needs.value * MIB)}`,
        ...recall.map((one) => cited(`${one.what} ${one.value}`, one.source)),
        ...(recall.length === 0 ? ['recall not known'] : []),
      ]
      return [`  ${id}  ${what}`, `    ${facts.join(' · ')}`]
    },
  )
  const notes = Object.entries(sources).filter(([key]) => used.has(key))
  return [...lines, ...notes.map(([key, source]) => `  [${key}] ${source}`)]
}
