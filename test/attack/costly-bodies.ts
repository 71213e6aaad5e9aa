/** Faults 4 to 6: bodies that cost much processor time or memory for their bytes. */
import type { Attack, Target } from './attack.js'
import { ask, head } from './http.js'
import { filled, largeShapes, LARGEST } from './large-shapes.js'

/** Sends the questions in turn, `clients` at a time, until the attack is over. */
async function inLoop(
  { port, key, isOver }: Target,
  clients: number,
  questions: readonly { path: string; type?: string; method?: string; body?: Buffer }[],
): Promise<void> {
  const client = async (first: number): Promise<void> => {
    for (let at = first; !isOver(); at += 1) {
      const question = questions[at % questions.length]
      if (question !== undefined)
        await ask(port, { ...question, key: key(first), from: '127.0.0.2' }, 60_000)
    }
  }
  await Promise.all(Array.from({ length: clients }, (_, at) => client(at)))
}

const post = (path: string, body: string, type = 'application/json') => ({
  method: 'POST',
  path,
  type,
  // Bytes, so that this process, which measures the good clients too, does not encode them again.
  body: Buffer.from(body),
})

/** WordPiece tries every prefix of such words. */
const words = (letters: string, length: number): string =>
  `${letters.repeat(98).slice(0, 98)} `.repeat(Math.ceil(length / 99)).slice(0, length)

/** Silences of the event loop by all shapes are measured one by one: see silence.ts. */
const shapes = largeShapes.filter(({ name }) =>
  ['strings of 65 kB', 'names of 400 bytes', 'parts of nothing'].includes(name),
)

export const costlyBodies: readonly Attack[] = [
  {
    fault: 4,
    name: 'texts whose words are costly to tokenize',
    run: (target) =>
      inLoop(target, 4, [
        { path: `/search?q=${encodeURIComponent(words('abcdefg', 10_000))}` },
        post('/embed', JSON.stringify({ inputs: Array(128).fill({ text: words('qzj', 10_000) }) })),
        post('/embed', JSON.stringify({ inputs: Array(128).fill({ text: words('x', 10_000) }) })),
      ]),
  },
  {
    fault: 4,
    name: 'embeddings and reranks of many long texts',
    adds: true,
    run: (target) => {
      const text = 'a dog runs over the wide green field beside two children '.repeat(4)
      const documents = Array(100).fill({ text })
      return inLoop(target, 6, [
        post('/embed', JSON.stringify({ inputs: Array(64).fill({ text }) })),
        post('/rerank', JSON.stringify({ query: text, documents })),
      ])
    },
  },
  {
    fault: 5,
    name: 'JSON bodies of 20 MB in costly shapes',
    run: (target) =>
      inLoop(target, 3, [
        post('/search', filled('{"text":[1', ',1', ']}')),
        post('/search', filled('{"text":', '[', '')),
        post('/embed', filled('{"inputs":[{}', ',{}', ']}')),
        post('/search', filled('{"a":1', ',"abcdefg":1', '}')),
        post('/search', filled('{"text":"', '\u{1f600}', '"}').slice(0, LARGEST / 4)),
        post('/search', filled('{"image":"data:', ';', '"}')),
        post('/search', filled('{"image":"', 'A', '"}')),
        ...shapes.map(({ path, type, body }) => post(path, body(), type)),
        post(
          '/search',
          `--x\r\ncontent-disposition: form-data; name="filter"\r\ncontent-type: application/json\r\n\r\n${filled('', '[', '').slice(0, LARGEST / 2)}\r\n--x--\r\n`,
          'multipart/form-data; boundary=x',
        ),
      ]),
  },
  {
    fault: 6,
    name: 'streams of tiny bad lines and of chunks of one byte',
    run: async (target) => {
      const { raw, key, isOver } = target
      const start = head('PUT /items/a', key(0), [
        'Content-Type: image/png',
        'Transfer-Encoding: chunked',
      ])
      const socket = raw.connect(start)
      const drip = (): void => {
        if (!isOver() && !socket.destroyed) socket.write('1\r\na\r\n'.repeat(10_000), drip)
      }
      drip()
      await inLoop(target, 2, [
        post('/items', '1\n'.repeat(200_000), 'application/x-ndjson'),
        post('/items', '\n'.repeat(LARGEST), 'application/x-ndjson'),
      ])
    },
  },
]
