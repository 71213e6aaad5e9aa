/** The kept results, bench/results/NAME.json, with the machine of the measurement. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import { packageFolder } from '../src/config.js'
import type { Scale } from './bench.js'

export interface Machine {
  processor: string
  cores: number
  memory_gib: number
  node: string
  system: string
}

export interface Result {
  scale: Scale
  measured_on: string
  machine: Machine
  figures: unknown
}

const folder = join(packageFolder, 'bench', 'results')

export function keepResult(name: string, scale: Scale, figures: unknown): void {
  const result: Result = {
    scale,
    measured_on: new Date().toISOString().slice(0, 10),
    machine: machine(),
    figures,
  }
  mkdirSync(folder, { recursive: true })
  writeFileSync(fileOf(name), `${JSON.stringify(result, null, 2)}\n`)
}

/** Null if there is none. */
export function keptResult(name: string): Result | null {
  return existsSync(fileOf(name))
    ? (JSON.parse(readFileSync(fileOf(name), 'utf8')) as Result)
    : null
}

function fileOf(name: string): string {
  return join(folder, `${name}.json`)
}

function machine(): Machine {
  const [processor] = cpus()
  return {
    processor: processor?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memory_gib: Math.round(totalmem() / 2 ** 30),
    node: process.versions.node,
    system: `${process.platform} ${process.arch}`,
  }
}
