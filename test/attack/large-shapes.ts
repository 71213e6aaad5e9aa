/** Bodies within the limits of bytes and values, in shapes that cost the event loop most. */

export const LARGEST = 20_000_000

export interface Shape {
  name: string
  path: string
  type: string
  body: () => string
}

/** As many pieces as a body can have. */
export function filled(open: string, piece: string, close: string, size = LARGEST): string {
  const room = size - Buffer.byteLength(open + close)
  return open + piece.repeat(Math.floor(room / Buffer.byteLength(piece))) + close
}

/** Of 50,000 at most. */
const MAX_VALUES = 49_000
const times = (count: number, piece: string): string => Array(count).fill(piece).join()
const strings = (length: number, letter: string): string => {
  const string = `"${letter.repeat(Math.floor(length / Buffer.byteLength(letter)))}"`
  return times(Math.min(MAX_VALUES, Math.floor(LARGEST / (string.length + 1)) - 1), string)
}
const names = (count: number, length: number): string =>
  Array.from({ length: count }, (_, at) => `"${String(at).padStart(length, 'n')}":1`).join()

const json = (name: string, path: string, body: () => string): Shape => ({
  ...{ name, path, type: 'application/json', body },
})
const lines = (name: string, body: () => string): Shape => ({
  ...{ name, path: '/items', type: 'application/x-ndjson', body },
})
const form = (name: string, path: string, parts: () => string): Shape => ({
  ...{ name, path, type: 'multipart/form-data; boundary=x', body: () => `${parts()}--x--\r\n` },
})
const part = (head: string, value: string): string =>
  `--x\r\ncontent-disposition: form-data; name=${head}\r\n\r\n${value}\r\n`

export const largeShapes: readonly Shape[] = [
  json('strings of 65 kB', '/search', () => `{"text":[${strings(65_000, 'x')}]}`),
  json('strings of 65 kB of emoji', '/search', () => `{"text":[${strings(65_000, '😀')}]}`),
  json('strings of 20 kB', '/rerank', () => `{"query":"a","documents":[${strings(20_000, 'x')}]}`),
  json('strings of 400 bytes', '/search', () => `{"text":[${strings(400, 'x')}]}`),
  json('strings of escapes', '/search', () => `{"text":[${strings(400, '\\u00e9')}]}`),
  json('texts', '/embed', () => `{"inputs":[${times(24_000, `{"text":"${'x'.repeat(700)}"}`)}]}`),
  json('names of 400 bytes', '/search', () => `{${names(MAX_VALUES, 400)}}`),
  json('names of 5 bytes', '/search', () => `{${names(23_000, 5)}}`),
  json('escaped names', '/search', () => `{${names(20_000, 7).replaceAll('"n', '"\\n')}}`),
  json('numbers', '/search', () => `{"text":[${times(MAX_VALUES, '-1.2345678901234567e+300')}]}`),
  json('objects', '/embed', () => `{"inputs":[${times(24_000, '{}')}]}`),
  json(
    'objects of 90 kB',
    '/rerank',
    () => `{"query":"","documents":[${times(12_000, '{"a":1}')}]}`,
  ),
  json('lists in lists', '/search', () => '['.repeat(900) + ']'.repeat(900)),
  lines(
    'a payload of strings',
    () => `{"id":"a","image":"!","payload":{"a":[${strings(65_000, 'x')}]}}`,
  ),
  lines('a payload of names', () => `{"id":"a","image":"!","payload":{${names(MAX_VALUES, 400)}}}`),
  lines('payloads of numbers', () =>
    `{"id":"a","image":"!","payload":{"a":[${times(30_000, '1')}]}}\n`.repeat(300),
  ),
  form('parts of nothing', '/search', () => part('a', '').repeat(270_000)),
  form('a file of line breaks', '/search', () =>
    part('image; filename=a', '\r\n--'.repeat(LARGEST / 4 - 100)),
  ),
  form('fields of 50 kB', '/embed', () => part('text', 'x'.repeat(50_000)).repeat(380)),
  form('payloads of numbers', '/items', () =>
    (part('image; filename=a', 'x') + part('payload', `{"a":[${times(30_000, '1')}]}`)).repeat(100),
  ),
]
