/**
 * The file of keys: a line for each, `name scopes sha256:digest`, and comments after `#`. Errors
 * name the line and never repeat it: a key may have been put there by mistake.
 */
import { readFile, stat } from 'node:fs/promises'
import type { Key } from './keys.js'
import { scopes, type Scope } from './key.js'

const LINE = /^([A-Za-z0-9._-]{1,64})\s+([a-z,]+)\s+sha256:([0-9a-f]{64})$/

export function keyLine({ name, scopes: given, digest }: Key): string {
  const line = `${name} ${given.join(',')} sha256:${digest.toString('hex')}`
  if (LINE.test(line)) return line
  throw new Error('The name of a key has 1 to 64 letters, digits, dots, dashes and underscores.')
}

/** @throws Error naming `path` and the first line that is wrong */
export function parseKeys(text: string, path: string): Key[] {
  const keys: Key[] = []
  for (const [at, raw] of text.split(/\r?\n/).entries()) {
    const line = raw.replace(/#.*/, '').trim()
    if (line === '') continue
    const wrong = (sentence: string): Error => new Error(`${path}, line ${at + 1}: ${sentence}.`)
    const [, name = '', list = '', hex = ''] = LINE.exec(line) ?? []
    if (name === '') throw wrong('expected a name, scopes and sha256: with 64 hexadecimal digits')
    const given = list.split(',')
    if (!given.every(isScope))
      throw wrong(`expected scopes out of ${scopes.join(', ')}, separated by commas`)
    const key = { name, scopes: given, digest: Buffer.from(hex, 'hex') }
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
    // Taken before the content: a change in between is seen at the next look.
    this.#version = await versionOf(this.path)
    const text = await readFile(this.path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      throw new Error(`The keys in ${this.path} cannot be read (${error.code ?? error.message}).`)
    })
    return parseKeys(text, this.path)
  }

  /**
   * Looks at the file again and again. A notification of the file system would not do: it is lost
   * when the file is replaced by a rename, as editors do, or by turning a link, as Kubernetes does.
   */
  watch(changed: () => Promise<void>): void {
    const look = async (): Promise<void> => {
      if ((await versionOf(this.path)) !== this.#version) await changed()
      this.#timer?.refresh()
    }
    this.#timer = setTimeout(() => void look(), this.#pollMs).unref()
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}

/** Differs after every change of the file, also after its replacement or removal. */
async function versionOf(path: string): Promise<string> {
  return stat(path).then(
    ({ ino, size, mtimeMs, ctimeMs }) => [ino, size, mtimeMs, ctimeMs].join(' '),
    () => 'missing',
  )
}
