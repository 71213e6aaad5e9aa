/** Reads the describing files of a folder that somebody else made. */
import { open, readdir, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { BundleError } from '../model/bundle/bundle.js'

export type Json = Readonly<Record<string, unknown>>

/** Vocabularies have some 40 MB; a larger description would only fill the memory. */
const MAX_JSON_BYTES = 256 * 2 ** 20
const HEADER_BYTES = 8
const MAX_HEADER_BYTES = 100 * 2 ** 20
/** Types of a number in a safetensors file. */
const NUMBERS: Readonly<Record<string, (bytes: Buffer) => number>> = {
  F32: (bytes) => bytes.readFloatLE(),
  F64: (bytes) => bytes.readDoubleLE(),
  BF16: (bytes) => Buffer.from([0, 0, bytes.readUInt8(0), bytes.readUInt8(1)]).readFloatLE(),
}

export class Folder {
  readonly path: string

  constructor(path: string) {
    this.path = path
  }

  get name(): string {
    return basename(this.path)
  }

  async has(name: string): Promise<boolean> {
    return (await stat(join(this.path, name)).catch(() => null))?.isFile() === true
  }

  /** Names in a folder inside this one; none if it is missing. */
  async names(inner = ''): Promise<string[]> {
    return (await readdir(join(this.path, inner)).catch(() => [])).sort()
  }

  /** @throws BundleError when the file is missing, too large or no JSON object */
  async json(name: string): Promise<Json> {
    const text = (await this.#bytes(name)).toString('utf8')
    const value = parsed(text, `${name} of ${this.path}`)
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw new BundleError(`${name} of ${this.path} is no JSON object.`)
    return value as Json
  }

  /** An empty object if there is no such file. */
  async jsonIf(name: string): Promise<Json> {
    return (await this.has(name)) ? this.json(name) : {}
  }

  async textIf(name: string): Promise<string> {
    return (await this.has(name)) ? (await this.#bytes(name)).toString('utf8') : ''
  }

  /** Numbers of a safetensors file by their names, those that it has. */
  async numbers(name: string, wanted: readonly string[]): Promise<Map<string, number>> {
    const numbers = new Map<string, number>()
    if (!(await this.has(name))) return numbers
    const file = await open(join(this.path, name))
    try {
      const read = async (length: number, at: number): Promise<Buffer> =>
        (await file.read(Buffer.alloc(length), 0, length, at)).buffer
      const length = Number((await read(HEADER_BYTES, 0)).readBigUInt64LE())
      if (length > MAX_HEADER_BYTES) return numbers
      const header = parsed((await read(length, HEADER_BYTES)).toString('utf8'), name) as Record<
        string,
        { dtype?: string; data_offsets?: [number, number] } | undefined
      >
      for (const key of wanted) {
        const { dtype = '', data_offsets: [at] = [Number.NaN] } = header[key] ?? {}
        const number = NUMBERS[dtype]
        if (number !== undefined && Number.isSafeInteger(at))
          numbers.set(key, number(await read(8, HEADER_BYTES + length + at)))
      }
      return numbers
    } finally {
      await file.close()
    }
  }

  async #bytes(name: string): Promise<Buffer> {
    const file = await open(join(this.path, name)).catch((error: Error) => {
      throw new BundleError(`${name} of ${this.path} cannot be read: ${error.message}`)
    })
    try {
      const { size } = await file.stat()
      if (size > MAX_JSON_BYTES)
        throw new BundleError(`${name} of ${this.path} has ${size} bytes, too many for its kind.`)
      return await file.readFile()
    } finally {
      await file.close()
    }
  }
}

function parsed(text: string, name: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new BundleError(`${name} is not JSON: ${(error as Error).message}`)
  }
}
