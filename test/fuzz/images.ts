/** Mutated images in each form of request. A mutant with a new kind of answer becomes a seed. */
import { randomNumbers } from '../support/random-embeddings.js'
import type { Case } from './campaign.js'
import type { Reply } from './connection.js'
import { below, mutate, oneOf, type Random } from './mutations.js'
import { kinds, seedsOf, type Kind } from './seeds.js'

/** Mutants that become seeds, for each type. */
const MOST_KEPT = 300
const SHARE_OF_SEEDS = 0.4
const IDS = 200

/** A mutant with an answer unlike all before. */
export interface Lesson {
  kind: Kind
  answer: string
  bytes: Buffer
}

/** @param onLesson - called with each mutant that becomes a seed */
export async function mutatedImages(
  count: number,
  seed: number,
  onLesson: (lesson: Lesson) => void = () => undefined,
): Promise<Iterable<Case>> {
  const seeds = new Map<Kind, Buffer[]>()
  for (const kind of kinds) seeds.set(kind, await seedsOf(kind))
  return generate(count, randomNumbers(seed), seeds, onLesson)
}

function* generate(
  count: number,
  next: Random,
  seeds: ReadonlyMap<Kind, Buffer[]>,
  onLesson: (lesson: Lesson) => void,
): Generator<Case> {
  const all = [...seeds.values()].flat()
  const kept = new Map<Kind, Buffer[]>(kinds.map((kind) => [kind, []]))
  const answers = new Set<string>()
  for (let at = 0; at < count; at += 1) {
    const kind = oneOf(kinds, next)
    const [first, learnt] = [seeds.get(kind) ?? [], kept.get(kind) ?? []]
    const parent = oneOf(learnt.length === 0 || next() < SHARE_OF_SEEDS ? first : learnt, next)
    const bytes = mutate(parent, next, next() < 0.8 ? first : all)
    const learn = (reply: Reply): void => {
      const answer = `${kind} ${answerOf(reply)}`
      if (answers.has(answer)) return
      answers.add(answer)
      if (learnt.length < MOST_KEPT) learnt.push(bytes)
      onLesson({ kind, answer, bytes })
    }
    yield { kind, message: oneOf(carriers, next)(bytes, next), isWhole: true, learn }
  }
}

/** The message without numbers and names: the words of the decoder show how far it came. */
function answerOf({ status, body }: Reply): string {
  const { detail, items } = JSON.parse(body.toString() || '{}') as {
    detail?: string
    items?: { error?: { detail: string } }[]
  }
  return `${status} ${(detail ?? items?.[0]?.error?.detail ?? '').replace(/\b(0x)?[0-9a-f]*\d[0-9a-f]*\b/gi, '#')}`
}

type Carrier = (bytes: Buffer, next: Random) => Buffer

export function httpMessage(line: string, headers: Record<string, string>, body: Buffer): Buffer {
  const all = { host: 'localhost', ...headers, 'content-length': String(body.length) }
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`)
  return Buffer.concat([
    Buffer.from(`${line} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`, 'latin1'),
    body,
  ])
}

function form(bytes: Buffer, ...names: string[]): Buffer {
  const parts = names.flatMap((name, at) => [
    Buffer.from(
      `--line\r\ncontent-disposition: form-data; name="image"; filename="${name}"\r\n\r\n`,
    ),
    at === 0 ? bytes : bytes.subarray(0, bytes.length >> at),
    Buffer.from('\r\n'),
  ])
  return Buffer.concat([...parts, Buffer.from('--line--\r\n')])
}

const FORM = { 'content-type': 'multipart/form-data; boundary=line' }
const idOf = (next: Random): string => `image-${below(IDS, next)}`
const json = (line: string, value: object): Buffer =>
  httpMessage(line, { 'content-type': 'application/json' }, Buffer.from(JSON.stringify(value)))

const carriers: readonly Carrier[] = [
  (bytes) => httpMessage('POST /search', FORM, form(bytes, 'a')),
  (bytes) => httpMessage('POST /embed', FORM, form(bytes, 'a')),
  (bytes) => json('POST /search', { image: bytes.toString('base64') || 'AA==', k: 3 }),
  (bytes, next) => httpMessage(`PUT /items/${idOf(next)}`, { 'content-type': 'image/png' }, bytes),
  (bytes, next) => httpMessage('POST /items', FORM, form(bytes, idOf(next))),
]
