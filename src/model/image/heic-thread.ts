/** Decodes one HEIC image on a thread, whose memory returns with its end (heic.ts). */
import { createRequire } from 'node:module'
import { parentPort, workerData } from 'node:worker_threads'
import { rgbaTiff } from './rgba-tiff.js'

export interface HeicInput {
  bytes: Uint8Array
  /** Images with more are not decoded. */
  maxPixels: number
  maxSide: number
  /** The file of libheif-js. */
  library: string
}

/** An uncompressed TIFF, or why there is none. */
export type HeicReply =
  { tiff: Uint8Array } | { tooLarge: { width: number; height: number } } | { reason: string }

interface HeifImage {
  get_width(): number
  get_height(): number
  is_primary(): boolean
  display(
    image: { data: Uint8Array; width: number; height: number },
    done: (image: unknown) => void,
  ): void
}

interface LibHeif {
  ready?: Promise<unknown>
  HeifDecoder: new () => { decode(bytes: Uint8Array): HeifImage[] }
}

/** Box "colr" with an ICC profile (ISO/IEC 14496-12, section 12.1.5). */
const PROFILE_BOX = 'colrprof'
const MAX_PROFILE_BYTES = 4 << 20
/** Signature of a profile, and its place (ICC.1, section 7.2). */
const [SIGNATURE, SIGNATURE_AT] = ['acsp', 36]

const reasons: string[] = []
// The library prints the reason of a failure.
console.log = (...values: unknown[]) => {
  const texts = values.map((value) => (value as { message?: unknown } | null)?.message ?? value)
  reasons.push(texts.filter((text) => typeof text === 'string').join(': '))
}

function profileOf(bytes: Uint8Array): Uint8Array | undefined {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const at = file.indexOf(PROFILE_BOX)
  if (at < 4) return undefined
  const start = at + PROFILE_BOX.length
  const profile = file.subarray(start, at - 4 + file.readUInt32BE(at - 4))
  const isProfile =
    profile.toString('latin1', SIGNATURE_AT, SIGNATURE_AT + SIGNATURE.length) === SIGNATURE
  return isProfile && profile.length <= MAX_PROFILE_BYTES ? profile : undefined
}

async function decode({ bytes, maxPixels, maxSide, library }: HeicInput): Promise<HeicReply> {
  const libheif = createRequire(import.meta.url)(library) as LibHeif
  await libheif.ready
  const images = new libheif.HeifDecoder().decode(bytes)
  const image = images.find((candidate) => candidate.is_primary()) ?? images[0]
  if (image === undefined) return { reason: reasons.join('; ') }
  const [width, height] = [image.get_width(), image.get_height()]
  if (width * height > maxPixels || Math.max(width, height) > maxSide)
    return { tooLarge: { width, height } }
  const tiff = rgbaTiff(width, height, profileOf(bytes))
  const target = { data: tiff.pixels, width, height }
  const isDecoded = await new Promise((resolve) => {
    image.display(target, (shown) => resolve(shown !== null))
  })
  return isDecoded ? { tiff: tiff.file } : { reason: reasons.join('; ') }
}

const reply = await decode(workerData as HeicInput).catch((error: unknown): HeicReply => ({
  reason: String((error as Error | null)?.message ?? error),
}))
parentPort?.postMessage(reply, 'tiff' in reply ? [reply.tiff.buffer as ArrayBuffer] : [])
