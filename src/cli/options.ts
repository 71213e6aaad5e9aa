/** Options that several commands share, and their values. */
import { InvalidArgumentError, type Command } from 'commander'

/** Options of a command that calls a service. */
export interface ServiceOptions {
  url?: string
  key?: string
}

/** @param fallback - what the command uses without `--url` */
export function withServiceOptions(command: Command, fallback = 'the data folder'): Command {
  return command
    .option('--url <address>', `a running service (default: ${fallback})`, serviceUrl)
    .option('--key <key>', 'API key for the service (default: the first of API_KEYS)')
}

/** Reads an option as a whole number; both limits are inclusive. */
export function wholeNumber(least: number, most: number): (raw: string) => number {
  return (raw) => {
    const value = /^\d+$/.test(raw) ? Number(raw) : Number.NaN
    if (value >= least && value <= most) return value
    throw new InvalidArgumentError(`Expected a whole number from ${least} to ${most}.`)
  }
}

/** Reads an option as a number; both limits are inclusive. */
export function decimal(least: number, most: number): (raw: string) => number {
  return (raw) => {
    const value = raw.trim() === '' ? Number.NaN : Number(raw)
    if (value >= least && value <= most) return value
    throw new InvalidArgumentError(`Expected a number from ${least} to ${most}.`)
  }
}

function serviceUrl(raw: string): string {
  if (URL.canParse(raw) && /^https?:$/.test(new URL(raw).protocol)) return raw
  throw new InvalidArgumentError('Expected an address such as http://127.0.0.1:3000.')
}
