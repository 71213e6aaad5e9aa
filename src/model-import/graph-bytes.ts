/**
 * Reads and writes ONNX files with their weights left on the disk: a model of some gigabytes
 * becomes an object of some megabytes.
 */
import { open, type FileHandle } from 'node:fs/promises'
import { BundleError } from '../model/bundle/bundle.js'
import { MODEL } from '../model/onnx/onnx-schema.js'

/** Bytes of a weight in a file. */
export interface Place {
  path: string
  offset: number
  length: number
}

/** Smaller weights stay in the object. */
const MIN_PLACE_BYTES = 1024
const WINDOW_BYTES = 2 ** 16
const PIECE_BYTES = 4 * 2 ** 20
const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 }
/** Numbers of the fields in ONNX's schema. */
const fieldOf = (type: string, name: string): number =>
  MODEL.root.lookupType(`onnx.${type}`).fields[name]?.id ?? Number.NaN
const GRAPH = fieldOf('ModelProto', 'graph')
const INITIALIZER = fieldOf('GraphProto', 'initializer')
const RAW_DATA = fieldOf('TensorProto', 'raw_data')

export interface SlimFile {
  /** The file without the bytes of large weights of its graph. */
  bytes: Buffer
  /** By the number of the initializer. */
  places: Map<number, Place>
}

/** @throws BundleError when the file cannot be read or is cut off */
export async function readSlim(path: string, file: string): Promise<SlimFile> {
  const handle = await open(path).catch((error: Error) => {
    throw new BundleError(`${file} cannot be read: ${error.message}`)
  })
  try {
    return await new SlimReader(handle, path, file).read()
  } finally {
    await handle.close()
  }
}

class SlimReader {
  readonly #handle: FileHandle
  readonly #path: string
  readonly #file: string
  readonly #places = new Map<number, Place>()
  #window = Buffer.alloc(0)
  #windowAt = 0
  #at = 0
  #initializers = 0
  #graphs = 0

  constructor(handle: FileHandle, path: string, file: string) {
    this.#handle = handle
    this.#path = path
    this.#file = file
  }

  async read(): Promise<SlimFile> {
    const { size } = await this.#handle.stat()
    const bytes = await this.#message(size, GRAPH, async (end) => {
      if ((this.#graphs += 1) > 1) throw this.#refusal('it has two graphs')
      return this.#message(end, INITIALIZER, (tensorEnd) => this.#tensor(tensorEnd))
    })
    return { bytes, places: this.#places }
  }

  async #tensor(end: number): Promise<Buffer> {
    const number = this.#initializers
    this.#initializers += 1
    return this.#message(end, RAW_DATA, async (rawEnd) => {
      const length = rawEnd - this.#at
      if (length < MIN_PLACE_BYTES) {
        this.#places.delete(number)
        return this.#take(length)
      }
      this.#places.set(number, { path: this.#path, offset: this.#at, length })
      this.#at = rawEnd
      return null
    })
  }

  /** A message as it is, but for one field: `replace` returns its content, or null without it. */
  async #message(
    end: number,
    field: number,
    replace: (end: number) => Promise<Buffer | null>,
  ): Promise<Buffer> {
    const pieces: Buffer[] = []
    while (this.#at < end) {
      const key = await this.#varint()
      const wire = key % 8
      pieces.push(varint(key))
      if (wire === WIRE.varint) pieces.push(varint64(await this.#varint64()))
      else if (wire === WIRE.fixed64) pieces.push(await this.#take(8))
      else if (wire === WIRE.fixed32) pieces.push(await this.#take(4))
      else if (wire === WIRE.bytes) {
        const length = await this.#varint()
        if (this.#at + length > end) throw this.#refusal('it is cut off')
        const content =
          Math.floor(key / 8) === field
            ? await replace(this.#at + length)
            : await this.#take(length)
        if (content === null) pieces.pop()
        else pieces.push(varint(content.length), content)
      } else throw this.#refusal('it is not an ONNX file')
    }
    if (this.#at > end) throw this.#refusal('it is cut off')
    return Buffer.concat(pieces)
  }

  async #take(length: number): Promise<Buffer> {
    const inWindow = this.#at - this.#windowAt
    if (inWindow >= 0 && inWindow + length <= this.#window.length) {
      this.#at += length
      return this.#window.subarray(inWindow, inWindow + length)
    }
    const bytes = Buffer.allocUnsafe(length)
    const { bytesRead } = await this.#handle.read(bytes, 0, length, this.#at)
    if (bytesRead < length) throw this.#refusal('it is cut off')
    this.#at += length
    return bytes
  }

  async #varint(): Promise<number> {
    const value = await this.#varint64()
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw this.#refusal('it is not an ONNX file')
    return Number(value)
  }

  async #varint64(): Promise<bigint> {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = await this.#byte()
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
    throw this.#refusal('it is not an ONNX file')
  }

  async #byte(): Promise<number> {
    const place = this.#at - this.#windowAt
    if (place < 0 || place >= this.#window.length) {
      const bytes = Buffer.allocUnsafe(WINDOW_BYTES)
      const { bytesRead } = await this.#handle.read(bytes, 0, WINDOW_BYTES, this.#at)
      if (bytesRead === 0) throw this.#refusal('it is cut off')
      this.#window = bytes.subarray(0, bytesRead)
      this.#windowAt = this.#at
    }
    const byte = this.#window[this.#at - this.#windowAt] ?? 0
    this.#at += 1
    return byte
  }

  #refusal(reason: string): BundleError {
    return new BundleError(`${this.#file} is not a graph that can be run: ${reason}.`)
  }
}

/** Messages of a model whose graph has weights elsewhere. */
export interface SlimModel {
  /** The model without its graph. */
  head: Uint8Array
  /** The graph without those weights. */
  graph: Uint8Array
  /** Each tensor without its bytes, and where they are. */
  weights: readonly { tensor: Uint8Array; place: Place }[]
}

/** Writes a whole file; weights are copied a piece at a time. */
export async function writeWhole(into: string, { head, graph, weights }: SlimModel): Promise<void> {
  const entries = weights.map(({ tensor, place }) => {
    const rawHead = Buffer.concat([tag(RAW_DATA), varint(place.length)])
    const length = tensor.length + rawHead.length + place.length
    const start = Buffer.concat([tag(INITIALIZER), varint(length), tensor, rawHead])
    return { start, place }
  })
  const length = entries.reduce(
    (sum, { start, place }) => sum + start.length + place.length,
    graph.length,
  )
  const target = await open(into, 'w')
  try {
    await target.writeFile(Buffer.concat([head, tag(GRAPH), varint(length), graph]))
    for (const { start, place } of entries) {
      await target.writeFile(start)
      await copyPlace(place, target)
    }
  } finally {
    await target.close()
  }
}

async function copyPlace({ path, offset, length }: Place, target: FileHandle): Promise<void> {
  const source = await open(path)
  try {
    const piece = Buffer.allocUnsafe(Math.min(PIECE_BYTES, length))
    for (let done = 0; done < length;) {
      const wanted = Math.min(piece.length, length - done)
      const { bytesRead } = await source.read(piece, 0, wanted, offset + done)
      if (bytesRead === 0) throw new BundleError(`${path} became shorter while it was read.`)
      await target.writeFile(piece.subarray(0, bytesRead))
      done += bytesRead
    }
  } finally {
    await source.close()
  }
}

function tag(field: number): Buffer {
  return varint(field * 8 + WIRE.bytes)
}

function varint(value: number): Buffer {
  return varint64(BigInt(value))
}

function varint64(value: bigint): Buffer {
  const bytes: number[] = []
  for (let rest = value; ; rest >>= 7n) {
    if (rest < 0x80n) return Buffer.from([...bytes, Number(rest)])
    bytes.push(Number(rest & 0x7fn) | 0x80)
  }
}
