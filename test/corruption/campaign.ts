/**
 * Damages copies of a data folder and starts the service on each: it must work with right answers,
 * or say what is damaged and what mends it. A wrong answer must be known to `tandem check`.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { packageFolder } from '../../src/config.js'
import { image, Service } from '../full-disk/service.js'
import { corrupt, KINDS, randomFrom, type Part } from './corruptions.js'

const ITEMS = 30
const START_MS = 300_000
const QUERIES = ['a dog', 'the sea', 'a red car']
const SUPPORT = join(packageFolder, 'test', 'support')

export type Outcome = 'right answers' | 'refused with a sentence' | 'named by tandem check'

export interface Round {
  part: Part
  kind: string
  what: string
  outcome: Outcome | null
  /** What contradicts the claim; null if nothing does. */
  contradiction: string | null
}

/** What a client can read: a text for each request. */
type Answers = Map<string, string>

export async function runCampaign(options: {
  rounds: number
  seed: number
  onRound?: (round: Round) => void
}): Promise<Round[]> {
  const folder = await mkdtemp(join(tmpdir(), 'tandem-corruption-'))
  const pristine = join(folder, 'pristine')
  try {
    const expected = await fill(pristine)
    const rounds: Round[] = []
    while (rounds.length < options.rounds) {
      const number = rounds.length
      const random = randomFrom(options.seed * 100_003 + number)
      // More in the items, which no other file can replace.
      const part: Part = number % 3 === 2 ? 'index' : 'items'
      const kind = KINDS[Math.floor(random() * KINDS.length)] as string
      const damaged = join(folder, 'damaged')
      await cp(pristine, damaged, {
        recursive: true,
        filter: (source) => !source.endsWith('/lock'),
      })
      const what = await corrupt(damaged, part, kind, random)
      const judged = await judge(damaged, join(folder, 'started'), expected)
      const round = { part, kind, what, ...judged }
      rounds.push(round)
      options.onRound?.(round)
      await rm(damaged, { recursive: true })
    }
    return rounds
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Makes a data folder with replaced and removed items, and stops the service. */
async function fill(dataFolder: string): Promise<Answers> {
  const service = await Service.start(dataFolder)
  try {
    for (let at = 0; at < ITEMS; at += 1) await service.put(`item-${at}`, await image(at))
    for (let at = 0; at < 5; at += 1) await service.put(`item-${at}`, await image(100 + at))
    await service.request('DELETE', '/items/item-9')
    return await answersOf(service)
  } finally {
    await service.stop()
  }
}

async function answersOf(service: Service): Promise<Answers> {
  const answers: Answers = new Map()
  const read = async (path: string): Promise<void> =>
    void answers.set(path, await service.text('GET', path))
  await read('/items?limit=1000')
  for (let at = 0; at < ITEMS; at += 1) {
    await read(`/items/item-${at}`)
    await read(`/items/item-${at}/image`)
  }
  for (const query of QUERIES) {
    const path = `/search?q=${encodeURIComponent(query)}&k=${ITEMS}`
    answers.set(path, ranked(await service.text('GET', path)))
  }
  return answers
}

/** A search without its timings, and with similarities of three digits. */
function ranked(text: string): string {
  if (!text.startsWith('200 ')) return text
  const { hits } = JSON.parse(text.slice(4)) as { hits: { id: string; similarity: number }[] }
  return JSON.stringify(hits.map(({ id, similarity }) => [id, similarity.toFixed(3)]))
}

async function judge(
  damaged: string,
  started: string,
  expected: Answers,
): Promise<Pick<Round, 'outcome' | 'contradiction'>> {
  await cp(damaged, started, { recursive: true })
  const wrong = (contradiction: string): Pick<Round, 'outcome' | 'contradiction'> => ({
    outcome: null,
    contradiction,
  })
  try {
    const start = await Service.start(started, START_MS).catch((error: Error) => error.message)
    if (typeof start === 'string') {
      if (/ended with SIG/.test(start)) return wrong(`the start crashed: ${start}`)
      const isTold = /damaged|missing|cannot be opened/.test(start) && /restore|remove/i.test(start)
      return isTold
        ? { outcome: 'refused with a sentence', contradiction: null }
        : wrong(`the start failed without a sentence: ${start}`)
    }
    const answers = await answersOf(start).catch((error: Error) => error)
    const changes = [
      await start.put('item-new', await image(200)),
      (await start.request('DELETE', '/items/item-1')).status,
    ]
    const ended = await start.stop()
    if (answers instanceof Error) return wrong(`the service did not answer: ${answers.message}`)
    if (ended !== 0) return wrong(`the service ended with ${String(ended)}`)
    const differing = [...expected].filter(([path, text]) => answers.get(path) !== text)
    if (differing.length === 0 && changes.every((status) => status < 500))
      return { outcome: 'right answers', contradiction: null }
    const check = await tandemCheck(damaged)
    if (check.code === 1 && /not sound|is damaged/.test(check.output))
      return { outcome: 'named by tandem check', contradiction: null }
    const paths = differing.map(([path]) => `${path}: ${answers.get(path)?.slice(0, 80)}`)
    return wrong(
      `tandem check (${String(check.code)}) does not know of ${paths.slice(0, 3).join('; ')}, writes ${changes.join()}: ${check.output}`,
    )
  } finally {
    await rm(started, { recursive: true, force: true })
  }
}

async function tandemCheck(dataFolder: string): Promise<{ code: unknown; output: string }> {
  const program = ['--import', join(SUPPORT, 'run-source.mjs'), join(packageFolder, 'src/cli.ts')]
  const child = spawn(process.execPath, [...program, 'check'], {
    env: { PATH: process.env['PATH'], TANDEM_DATA_DIR: dataFolder },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
  return { code: signal ?? code, output }
}
