/**
 * Who may do what: API keys, each with a name and scopes. Kept are digests alone, never a key.
 *
 * A plain sha256 is right here: a slow hash such as scrypt protects secrets that people think up,
 * and a key of `newKey` has 256 random bits, which nobody finds by trying. A slow hash would only
 * make every request slow.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { KeysFile, keyLine } from './keys-file.js'
import type { Scope } from './key.js'

export { grants, scopes, type Scope } from './key.js'

export interface Key {
  /** Names the key in logs; it is no secret. */
  name: string
  scopes: readonly Scope[]
  /** sha256 of the key. */
  digest: Buffer
}

/**
 * What happened to the file of keys after the start: read again, or broken, and then the keys
 * before it still hold.
 */
export type KeysChange = { keys: number } | { error: Error }

export interface KeysOptions {
  /** Keys of the environment; each may do everything. */
  keys: readonly string[]
  file: string | undefined
  onChange: (change: KeysChange) => void
  /** Milliseconds between looks at the file. */
  pollMs?: number
}

const POLL_MS = 2000

/**
 * A key that nobody has, and the line that makes the service know it. The key cannot be read back
 * from the line.
 */
export function newKey(name: string, given: readonly Scope[]): { key: string; line: string } {
  const key = `tandem_${randomBytes(32).toString('base64url')}`
  return { key, line: keyLine({ name, scopes: given, digest: digestOf(key) }) }
}

/**
 * @throws Error with a sentence when the file cannot be read, has a line that is no key, or there
 * is no key at all
 */
export async function openKeys({
  keys,
  file,
  onChange,
  pollMs = POLL_MS,
}: KeysOptions): Promise<Keys> {
  const fixed = keys.map((key, at): Key => ({
    // No name in the file can have a colon.
    name: `API_KEYS:${at + 1}`,
    scopes: ['admin'],
    digest: digestOf(key),
  }))
  const source = file === undefined ? undefined : new KeysFile(file, pollMs)
  const opened = new Keys(fixed, source, onChange)
  await opened.open()
  return opened
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

  /**
   * Whether requests need a key. A file that loses its last line still asks for one, which nobody
   * has then.
   */
  get needed(): boolean {
    return this.#file !== undefined || this.#fixed.length > 0
  }

  find(given: string): Key | undefined {
    const digest = digestOf(given)
    // Every key is compared, so that the time taken does not say which came close.
    return this.#known.filter((key) => timingSafeEqual(key.digest, digest))[0]
  }

  /** Reads the file again, where there is one; its outcome is told to `onChange`. */
  async reload(): Promise<void> {
    if (this.#file === undefined) return
    try {
      this.#known = [...this.#fixed, ...(await this.#file.read())]
      this.#onChange({ keys: this.#known.length })
    } catch (error) {
      this.#onChange({ error: error as Error })
    }
  }

  /** Reads the file again whenever it changes, until `close`. */
  watch(): void {
    this.#file?.watch(() => this.reload())
  }

  close(): void {
    this.#file?.close()
  }
}

function digestOf(key: string): Buffer {
  return createHash('sha256').update(key).digest()
}
