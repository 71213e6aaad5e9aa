/**
 * API keys of the service. Only digests are stored.
 *
 * A plain sha256 is sufficient: slow hashes such as scrypt protect secrets that people choose, and
 * a key of `newKey` has 256 random bits. A slow hash would only slow down every request.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto'
import { digestOf, type Key, type Scope } from './key.js'
import { keyLine, KeysFile } from './keys-file.js'

/** The file of keys was read again, or is broken and the former keys stay valid. */
export type KeysChange = { keys: number } | { error: Error }

export interface KeysOptions {
  /** Keys of the environment, with all scopes. */
  keys: readonly string[]
  file: string | undefined
  onChange: (change: KeysChange) => void
  /** Interval of polling the file. */
  pollMs?: number
}

const POLL_MS = 2000

/** @returns a new key, and its line for the file of keys, which does not reveal the key */
export function newKey(name: string, granted: readonly Scope[]): { key: string; line: string } {
  const key = `tandem_${randomBytes(32).toString('base64url')}`
  return { key, line: keyLine({ name, scopes: granted, digest: digestOf(key) }) }
}

/** @throws Error if the file cannot be read, has an invalid line or contains no key */
export async function openKeys({
  keys,
  file,
  onChange,
  pollMs = POLL_MS,
}: KeysOptions): Promise<Keys> {
  const fixed = keys.map((key, at): Key => ({
    // Names in the file have no colon.
    name: `API_KEYS:${at + 1}`,
    scopes: ['admin'],
    digest: digestOf(key),
  }))
  const keysFile = file === undefined ? undefined : new KeysFile(file, pollMs)
  const all = new Keys(fixed, keysFile, onChange)
  await all.open()
  return all
}

export class Keys {
  readonly #fixed: readonly Key[]
  readonly #file: KeysFile | undefined
  readonly #onChange: (change: KeysChange) => void
  #known: readonly Key[]

  constructor(
    fixed: readonly Key[],
    file: KeysFile | undefined,
    onChange: (change: KeysChange) => void,
  ) {
    this.#fixed = fixed
    this.#file = file
    this.#onChange = onChange
    this.#known = fixed
  }

  async open(): Promise<void> {
    if (this.#file === undefined) return
    this.#known = [...this.#fixed, ...(await this.#file.read())]
    if (this.#known.length > 0) return
    throw new Error(
      `${this.#file.path} holds no key; "tandem key <name> --scope read" makes a line for it.`,
    )
  }

  /** Whether requests need a key. They do even after the file has lost its last line. */
  get needed(): boolean {
    return this.#file !== undefined || this.#fixed.length > 0
  }

  find(key: string): Key | undefined {
    const digest = digestOf(key)
    // Compares all keys, so that the time reveals nothing about the digests.
    return this.#known.filter((known) => timingSafeEqual(known.digest, digest))[0]
  }

  /** Reads the file again and reports to `onChange`; does nothing without a file. */
  async reload(): Promise<void> {
    if (this.#file === undefined) return
    try {
      this.#known = [...this.#fixed, ...(await this.#file.read())]
      this.#onChange({ keys: this.#known.length })
    } catch (error) {
      this.#onChange({ error: error as Error })
    }
  }

  /** Reads the file again after each change, until `close`. */
  watch(): void {
    this.#file?.watch(() => this.reload())
  }

  close(): void {
    this.#file?.close()
  }
}
