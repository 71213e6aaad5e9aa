/** Who may import whom: docs/architecture.md as a test. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('../src', import.meta.url))

interface Source {
  /** Relative to src/, as in `model/session.ts`. */
  path: string
  /** Our own files, as paths; packages and node: modules, by name. */
  imports: string[]
  lines: number
}

const IMPORTS =
  /(?:^|\n)\s*(?:import|export)\s[^'"]*?from\s*['"]([^'"]+)['"]|(?:^|\n)\s*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/g

const sources: Source[] = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .map((path) => {
    const file = join(root, path)
    const text = readFileSync(file, 'utf8')
    const imports = [...text.matchAll(IMPORTS)].map(
      ([, from, bare, dynamic]) => from ?? bare ?? dynamic ?? '',
    )
    return {
      path: relative(root, file),
      imports: imports.map((name) => resolved(path, name)),
      lines: text.split('\n').length,
    }
  })

function resolved(path: string, name: string): string {
  if (!name.startsWith('.')) return name
  return posix.join(dirname(path), name).replace(/\.js$/, '.ts')
}

/** A package's name without the path inside it. */
function packageOf(name: string): string {
  return name
    .split('/')
    .slice(0, name.startsWith('@') ? 2 : 1)
    .join('/')
}

const own = ({ imports }: Source): string[] => imports.filter((name) => name.endsWith('.ts'))
const importersOf = (name: string): string[] =>
  sources
    .filter(({ imports }) => imports.some((imported) => packageOf(imported) === name))
    .map(({ path }) => path)

/**
 * The part of the house that a file belongs to: a folder, with its door, or a file of the top
 * level.
 */
const partOf = (path: string): string => path.replace(/\.ts$/, '').split('/')[0] ?? ''

describe('the sources', () => {
  it('are found, imports included', () => {
    expect(sources.length).toBeGreaterThan(10)
    expect(sources.find(({ path }) => path === 'model.ts')?.imports).toContain(
      'model/tandem-models.ts',
    )
    const known = new Set(sources.map(({ path }) => path))
    expect(sources.flatMap(own).filter((path) => !known.has(path))).toEqual([])
  })

  it('are short enough to be read', () => {
    expect(sources.filter(({ lines }) => lines > 250).map(({ path }) => path)).toEqual([])
  })
})

describe('each native addon and the client of each engine have one importer', () => {
  it.each([
    ['onnxruntime-node', 'model/session.ts'],
    ['sharp', 'model/preprocess.ts'],
    ['hnswlib-node', 'vector-index/hnsw-graph.ts'],
    ['lmdb', 'item-store/environment.ts'],
    ['@zilliz/milvus2-sdk-node', 'milvus/engine.ts'],
    ['@aws-sdk/client-s3', 'image-store/bucket-place.ts'],
  ])('%s', (name, importer) => {
    expect(importersOf(name)).toEqual([importer])
  })
})

describe('arrows point one way', () => {
  it.each(['config.ts', 'errors.ts', 'schemas.ts', 'turns.ts', 'time-limit.ts', 'web-assembly.ts'])(
    '%s imports nothing of ours',
    (path) => {
      const source = sources.find((candidate) => candidate.path === path)
      expect(source && own(source)).toEqual([])
    },
  )

  const rooms = [
    'model',
    'vector-index',
    'item-store',
    'keys',
    'worker-process',
    'remote-images',
    'backups',
    'image-store',
    'milvus',
  ]

  it.each([...rooms, 'filter'])('%s is entered by its door alone', (room) => {
    const intruders = sources.filter(
      (source) =>
        partOf(source.path) !== room && own(source).some((path) => path.startsWith(`${room}/`)),
    )
    expect(intruders.map(({ path }) => path)).toEqual([])
  })

  it.each([...rooms, 'filter'])(
    '%s imports nothing of ours but the errors, the worker process, the filter and the leaves that rooms share',
    (room) => {
      const imported = sources.filter(({ path }) => partOf(path) === room).flatMap(own)
      expect(
        [...new Set(imported.map(partOf))].filter(
          (part) =>
            ![
              room,
              'errors',
              'worker-process',
              'filter',
              'turns',
              'time-limit',
              'web-assembly',
            ].includes(part),
        ),
      ).toEqual([])
    },
  )

  it('the collection is entered by its door alone, from above the routes', () => {
    const outside = sources.filter((source) => partOf(source.path) !== 'collection')
    const intruders = outside.filter((source) =>
      own(source).some((path) => path.startsWith('collection/')),
    )
    expect(intruders.map(({ path }) => path)).toEqual([])
    const callers = outside
      .filter((source) => own(source).includes('collection.ts'))
      .map(({ path }) => partOf(path))
    expect([...new Set(callers)].sort()).toEqual([
      'app',
      'cli',
      'retrieval',
      'rooms',
      'safekeeping',
    ])
  })

  it('remote models are entered by their door alone, and know the models by their contract', () => {
    const room = sources.filter(({ path }) => partOf(path) === 'remote-models')
    expect(room.length).toBeGreaterThan(1)
    const outside = sources.filter(({ path }) => partOf(path) !== 'remote-models')
    const intruders = outside.filter((source) =>
      own(source).some((path) => path.startsWith('remote-models/')),
    )
    expect(intruders.map(({ path }) => path)).toEqual([])
    const known = [
      'remote-models',
      'model',
      'encoder-messages',
      'frames',
      'schemas',
      'errors',
      'worker-process',
      'turns',
    ]
    expect(
      [...new Set(room.flatMap(own).map(partOf))].filter((part) => !known.includes(part)),
    ).toEqual([])
    expect(
      room.flatMap(({ path }) => loadedBy(path)).filter((path) => partOf(path) === 'model'),
    ).toEqual([])
  })

  it('the rooms, the collection and the pipeline know nothing of HTTP', () => {
    const web = sources.filter(({ path }) =>
      [...rooms, 'collection', 'retrieval'].includes(partOf(path)),
    )
    const found = web.flatMap(({ path, imports }) =>
      imports.filter((name) => /^@?fastify/.test(name)).map((name) => `${path} → ${name}`),
    )
    expect(found).toEqual([])
  })

  it('routes see the rooms through the pipeline alone', () => {
    const routes = sources.filter(({ path }) => partOf(path) === 'routes')
    const found = routes.flatMap((source) =>
      own(source)
        .filter((path) => rooms.includes(partOf(path)))
        .map((path) => `${source.path} → ${path}`),
    )
    expect(found).toEqual([])
  })

  it.each([
    ['app', ['server', 'cli']],
    ['server', ['cli']],
  ])('%s is imported by nobody but %j', (part, allowed) => {
    const importers = sources.filter(
      (source) => partOf(source.path) !== part && own(source).some((path) => partOf(path) === part),
    )
    expect(
      [...new Set(importers.map(({ path }) => partOf(path)))].filter(
        (name) => !allowed.includes(name),
      ),
    ).toEqual([])
  })

  it('no file reaches itself by its imports', () => {
    // Types go both ways between a door and its room; what is loaded when the service runs does
    // not.
    const loaded = new Map(sources.map(({ path }) => [path, loadedBy(path)]))
    const cycles = sources.filter(({ path }) => reaches(path, path, loaded)).map(({ path }) => path)
    expect(cycles).toEqual([])
  })
})

/** Our files that `path` loads when it runs: its imports without those of types. */
function loadedBy(path: string): string[] {
  const text = readFileSync(join(root, path), 'utf8').replace(
    /(?:^|\n)\s*(?:import|export) type [^'"]*from\s*['"][^'"]+['"]/g,
    '',
  )
  return [...text.matchAll(IMPORTS)]
    .map(([, from, bare, dynamic]) => resolved(path, from ?? bare ?? dynamic ?? ''))
    .filter((name) => name.endsWith('.ts'))
}

function reaches(
  from: string,
  target: string,
  loaded: ReadonlyMap<string, readonly string[]>,
): boolean {
  const seen = new Set<string>()
  const open = [...(loaded.get(from) ?? [])]
  for (let path = open.pop(); path !== undefined; path = open.pop()) {
    if (path === target) return true
    if (!seen.has(path)) open.push(...(loaded.get(path) ?? []))
    seen.add(path)
  }
  return false
}
