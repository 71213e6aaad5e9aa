/** Fault 10: small files whose decoding takes much processor time or memory. */
import { plainPng } from '../support/images.js'
import type { Attack, Target } from './attack.js'
import { ask } from './http.js'

const SIDE = 7000

/** A JPEG with one block of coefficients and many progressive scans over it. */
export function scannedJpeg(scans: number): Buffer {
  const blocks = Math.ceil(SIDE / 8) ** 2
  const frame = Buffer.alloc(9)
  frame[0] = 8
  frame.writeUInt16BE(SIDE, 1)
  frame.writeUInt16BE(SIDE, 3)
  frame.set([1, 1, 0x11, 0], 5)
  const table = (kind: number, symbol: number): Buffer =>
    segment(0xc4, Buffer.from([kind, 1, ...Array<number>(15).fill(0), symbol]))
  const scan = (from: number, to: number): Buffer =>
    segment(0xda, Buffer.from([1, 1, 0, from, to, 0]))
  const empty = Buffer.concat([scan(1, 63), endOfBlockRuns(blocks)])
  return Buffer.concat([
    Buffer.from([0xff, 0xd8]),
    segment(0xdb, Buffer.from([0, ...Array<number>(64).fill(16)])),
    segment(0xc2, frame),
    table(0, 0),
    table(0x10, 0xe0),
    scan(0, 0),
    Buffer.alloc(Math.ceil(blocks / 8)),
    ...Array<Buffer>(scans).fill(empty),
    Buffer.from([0xff, 0xd9]),
  ])
}

function segment(marker: number, content: Buffer): Buffer {
  const start = Buffer.from([0xff, marker, 0, 0])
  start.writeUInt16BE(content.length + 2, 2)
  return Buffer.concat([start, content])
}

/** Runs of empty blocks: a bit for the symbol of 2^14 blocks, and 14 bits for how many more. */
function endOfBlockRuns(blocks: number): Buffer {
  let bits = ''
  for (let left = blocks; left > 0;) {
    const run = Math.min(Math.max(left, 16_384), 32_767)
    bits += `0${(run - 16_384).toString(2).padStart(14, '0')}`
    left -= run
  }
  const bytes: number[] = []
  for (let at = 0; at < bits.length; at += 8) {
    const byte = Number.parseInt(bits.slice(at, at + 8).padEnd(8, '1'), 2)
    bytes.push(byte, ...(byte === 0xff ? [0] : []))
  }
  return Buffer.from(bytes)
}

async function embed({ port, key, isOver }: Target, image: Buffer, clients: number): Promise<void> {
  const body = JSON.stringify({ inputs: [{ image: image.toString('base64') }] })
  const client = async (at: number): Promise<void> => {
    const question = { method: 'POST', path: '/embed', type: 'application/json', key: key(at) }
    while (!isOver()) await ask(port, { ...question, body, from: '127.0.0.2' }, 60_000)
  }
  await Promise.all(Array.from({ length: clients }, (_, at) => client(at)))
}

export const costlyImages: readonly Attack[] = [
  {
    fault: 10,
    name: 'progressive JPEGs of 400 and 20,000 scans',
    adds: true,
    run: async (target) => {
      await Promise.all([400, 20_000].map((scans) => embed(target, scannedJpeg(scans), 4)))
    },
  },
  {
    fault: 10,
    name: 'PNGs of 49 megapixels',
    adds: true,
    run: (target) => embed(target, plainPng(SIDE, SIDE), 6),
  },
]
