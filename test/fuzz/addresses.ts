/** Methods, targets and headers of requests, valid and invalid. */
import fc, { type Arbitrary } from 'fast-check'
import { ids, names, texts } from './values.js'

export const methods: Arbitrary<string> = fc.constantFrom(
  ...[
    'HEAD',
    'OPTIONS',
    'PATCH',
    'TRACE',
    'QUERY',
    'PROPFIND',
    'SEARCH',
    'PUT',
    'POST',
    'DELETE',
    'GET',
  ],
)

const oddTargets = fc.constantFrom(
  ...[
    '/',
    '*',
    '//',
    '/..',
    '/items/',
    '/items//image',
    '/%',
    '/%00',
    '/items/%ff',
    '/docs/errors',
    '/docs/static/../../package.json',
  ],
  ...[
    '/metrics',
    '/nothing',
    'http://localhost/items',
    '/search?q',
    '/search?q=a&q=b',
    '/search?__proto__[x]=1&q=dog',
    '/search?q=dog#x',
  ],
  ...[
    '/openapi.json?x=1',
    '/.env',
    '/search?q=%',
    '/search?q=%ff',
    `/${'a'.repeat(9000)}`,
    `/items/${'%41'.repeat(4000)}`,
    '/items/a%2fb',
  ],
)

/** The path with an id or name and parameters; sometimes one too many, or another target. */
export function targetTo(
  path: string,
  query: Record<string, Arbitrary<unknown>>,
): Arbitrary<string> {
  const more = fc.oneof(
    { weight: 9, arbitrary: fc.constant({}) },
    { weight: 1, arbitrary: fc.dictionary(texts, texts, { maxKeys: 2 }) },
  )
  const given = fc.oneof(
    { weight: 2, arbitrary: fc.record(query) },
    { weight: 1, arbitrary: fc.record(query, { requiredKeys: [] }) },
  )
  const right = fc
    .tuple(path.includes('{name}') ? names : ids, given, more)
    .map(([id, parameters, others]) => {
      const search = Object.entries({ ...parameters, ...others }).map(
        ([name, value]) => `${encoded(name)}=${encoded(value)}`,
      )
      return (
        path.replace(/\{\w+\}/, encoded(id)) + (search.length === 0 ? '' : `?${search.join('&')}`)
      )
    })
  return fc.oneof({ weight: 12, arbitrary: right }, { weight: 1, arbitrary: oddTargets })
}

/** As UTF-8, which cannot encode a lone surrogate. */
function encoded(value: unknown): string {
  return encodeURIComponent(Buffer.from(String(value)).toString())
}

/** Headers that keep a message valid HTTP. */
export const oddHeaders: Arbitrary<string> = fc.oneof(
  fc.constantFrom(
    ...[
      'accept: text/html',
      'accept-encoding: br;q=0',
      'if-none-match: *',
      'if-none-match: "x',
      'x-tandem-payload: {"a":1}',
      'x-tandem-payload: {',
    ],
    ...[
      'authorization: Bearer x',
      'authorization: Basic Og==',
      `x-api-key: ${'x'.repeat(4000)}`,
      'origin: null',
      'origin: http://localhost',
    ],
    ...[
      'sec-fetch-site: cross-site',
      'sec-fetch-site: none',
      'x-forwarded-for: 1.2.3.4',
      'range: bytes=0-1',
      'x-http-method-override: DELETE',
    ],
    ...[
      'content-encoding: gzip',
      `cookie: ${'a=b; '.repeat(500)}`,
      'request-timeout: 0',
      'request-timeout: -1',
      'request-timeout: 1e9',
    ],
    ...[
      'request-timeout: 5',
      'forwarded: for="[::1]"',
      'te: trailers',
      'via: 1.1 x',
      'if-modified-since: never',
      'prefer: wait=0',
    ],
  ),
  fc.stringMatching(/^x-[a-z][a-z-]{0,20}: [!-~]([ -~]{0,40}[!-~])?$/),
)

/** Headers that decide the length and the route of a message, or that are malformed. */
export const brokenHeaders: Arbitrary<string> = fc.constantFrom(
  ...[
    'transfer-encoding: chunked',
    'transfer-encoding: gzip, chunked',
    'content-length: 5',
    'content-length: -1',
    'content-length: 99999999999',
  ],
  ...[
    'content-length: 300000',
    'expect: 100-continue',
    'expect: x',
    'connection: upgrade\r\nupgrade: websocket',
    'connection: close',
    'host:',
  ],
  ...[
    'host: evil.example',
    'host: localhost',
    ' folded: x',
    'a\u0000b: c',
    'x: \u00ff',
    'no colon',
    ': no name',
    `big: ${'x'.repeat(20_000)}`,
  ],
)

export const oddTypes: Arbitrary<string> = fc.constantFrom(
  ...[
    'application/json',
    'application/json; charset=utf-16',
    'APPLICATION/JSON',
    'text/plain',
    'image/jpeg',
    'application/octet-stream',
  ],
  ...[
    'application/x-ndjson',
    'multipart/form-data',
    'multipart/mixed; boundary=b',
    'application/x-www-form-urlencoded',
    'x',
    'a/b, c/d',
    '',
  ],
)
