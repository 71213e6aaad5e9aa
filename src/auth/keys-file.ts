/**
 * The file of keys: lines `name scopes sha256:digest`, with comments after `#`. Errors give the
 * number of a line but not its text, which may contain a key by mistake.
 */
import { readFile, stat } from 'node:fs/promises'
import { scopes, type Key, type Scope } from './key.js'

const LINE = /^([A-Za-z0-9._-]{1,64})\s+([a-z,]+)\s+sha256:([0-9a-f]{64})$/

/** @throws Error for a name that the file cannot hold */
export function keyLine({ name, scopes: granted, digest }: Key): string {
  const line = `${name} ${granted.join(',')} sha256:${digest.toString('hex')}`
  if (LINE.test(line)) return line
  throw new Error('The name of a key has 1 to 64 letters, digits, dots, dashes and underscores.')
}

/** @throws Error naming `path` and the first line that is wrong */
function parseKeys(text: string, path: string): Key[] {
  const keys: Key[] = []
  for (const [at, raw] of text.split(/\r?\n/).entries()) {
    const line = raw.replace(/#.*/, '').trim()
    if (line === '') continue
    const wrong = (sentence: string): Error => new Error(`${path}, line ${at + 1}: ${sentence}.`)
    const [, name = '', list = '', hex = ''] = LINE.exec(line) ?? []
    if (name === '') throw wrong('expected a name, scopes and sha256: with 64 hexadecimal digits')
    const granted = list.split(',')
    if (!granted.every(isScope))
      throw wrong(`expected scopes out of ${scopes.join(', ')}, separated by commas`)
    const key = { name, scopes: granted, digest: Buffer.from(hex, 'hex') }
    if (keys.some((known) => known.name === name))
      throw wrong(`another line has the name "${name}" already`)
    if (keys.some((known) => known.digest.equals(key.digest)))
      throw wrong('another line has the same digest already')
    keys.push(key)
  }
  return keys
}

function isScope(text: string): text is Scope {
  return (scopes as readonly string[]).includes(text)
}

export class KeysFile {
  readonly path: string
  readonly #pollMs: number
  #version = ''
  #timer: NodeJS.Timeout | undefined

  constructor(path: string, pollMs: number) {
    this.path = path
    this.#pollMs = pollMs
  }

  async read(): Promise<Key[]> {
    // Read before the content, so that the next poll sees a change in between.
    this.#version = await versionOf(this.path)
    const text = await readFile(this.path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      throw new Error(`The keys in ${this.path} cannot be read (${error.code ?? error.message}).`)
    })
    return parseKeys(text, this.path)
  }

  /**
   * Polls the file. Notifications of the file system are lost when an editor renames a new file
   * over it, or Kubernetes changes a link.
   */
  watch(changed: () => Promise<void>): void {
    const poll = async (): Promise<void> => {
      if ((await versionOf(this.path)) !== this.#version) await changed()
      this.#timer?.refresh()
    }
    this.#timer = setTimeout(() => void poll(), this.#pollMs).unref()
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}

/** Changes whenever the file is changed, replaced or removed. */
async function versionOf(path: string): Promise<string> {
  return stat(path).then(
    ({ ino, size, mtimeMs, ctimeMs }) => [ino, size, mtimeMs, ctimeMs].join(' '),
    () => 'missing',
  )
}
