/**
 * The rules of docs/architecture.md as functions: each takes the sources and returns a sentence for
 * each violation.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'

export interface Source {
  /** Relative to src/, such as `model/onnx/session.ts`. */
  path: string
  text: string
}

/** Top folders from the highest layer to the lowest: imports go down, never to a sibling. */
export const LAYERS: readonly (readonly string[])[] = [
  ['cli.ts'],
  ['cli', 'server.ts'],
  ['http'],
  ['retrieval'],
  ['backup'],
  ['calibration', 'collection', 'model-import'],
  ['model', 'model-hub', 'item-store', 'image-store', 'image-fetch', 'auth'],
  ['vector-index'],
  ['filter', 'worker', 'language'],
  ['files', 'async'],
  ['config.ts', 'errors.ts', 'wasm.ts'],
]

/** The only files at the top of src/. */
export const TOP_FILES = ['server.ts', 'cli.ts', 'config.ts', 'errors.ts', 'wasm.ts']

/** The one importer of each native addon and of each client of an engine. */
export const IMPORTERS: Readonly<Record<string, string>> = {
  'onnxruntime-node': 'model/onnx/session.ts',
  sharp: 'model/image/preprocess.ts',
  'hnswlib-node': 'vector-index/hnsw-graph.ts',
  lmdb: 'item-store/environment.ts',
  '@zilliz/milvus2-sdk-node': 'collection/milvus/engine.ts',
  '@aws-sdk/client-s3': 'image-store/bucket-place.ts',
}

const MAX_FILES = 20
const MAX_LINES = 400
const MAX_COLUMNS = 100
const VAGUE_NAMES = ['utils', 'util', 'common', 'helpers', 'lib', 'misc', 'shared']

const IMPORT =
  /(?:^|\n)\s*(?:import|export)\s[^'"]*?from\s*['"]([^'"]+)['"]|(?:^|\n)\s*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/g

export function readSources(root: string): Source[] {
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .map((path) => ({
      path: path.split('\\').join('/'),
      text: readFileSync(join(root, path), 'utf8'),
    }))
}

/** Imports, including those of types: files as paths relative to src/, packages by name. */
export function importsOf({ path, text }: Source): string[] {
  return [...text.matchAll(IMPORT)].map(([, from, bare, dynamic]) => {
    const name = from ?? bare ?? dynamic ?? ''
    if (!name.startsWith('.')) return name
    return posix.join(posix.dirname(path), name).replace(/\.js$/, '.ts')
  })
}

const ownImports = (source: Source): string[] =>
  importsOf(source).filter((name) => name.endsWith('.ts'))
const folderOf = (path: string): string => (path.includes('/') ? posix.dirname(path) : '')
const topOf = (path: string): string => path.split('/')[0] ?? ''
/** Whether the file is the contract of its folder: `x/x.ts`, or `x/xs.ts`. */
const isContract = (path: string): boolean => {
  const folder = posix.basename(folderOf(path))
  return [folder, `${folder}s`].includes(posix.basename(path, '.ts'))
}
const isInside = (folder: string, ancestor: string): boolean =>
  ancestor === '' || folder === ancestor || folder.startsWith(`${ancestor}/`)

export function unknownImports(sources: readonly Source[]): string[] {
  const known = new Set(sources.map(({ path }) => path))
  return sources.flatMap((source) =>
    ownImports(source)
      .filter((path) => !known.has(path))
      .map((path) => `${source.path} imports ${path}, which does not exist`),
  )
}

export function strayTopFiles(sources: readonly Source[]): string[] {
  return sources
    .filter(({ path }) => !path.includes('/') && !TOP_FILES.includes(path))
    .map(({ path }) => `${path} lies at the top of src/`)
}

/** Each circle of imports, including those of types, once. */
export function circles(sources: readonly Source[]): string[] {
  const imports = new Map(sources.map((source) => [source.path, ownImports(source)]))
  const done = new Set<string>()
  const circlesFound: string[] = []
  const walk = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path)
    if (start >= 0) {
      circlesFound.push([...trail.slice(start), path].join(' → '))
      return
    }
    if (done.has(path)) return
    for (const next of imports.get(path) ?? []) walk(next, [...trail, path])
    done.add(path)
  }
  for (const path of imports.keys()) walk(path, [])
  return circlesFound
}

/**
 * Imports of a higher layer, of another folder in the same layer, or of a file in an enclosing
 * folder that itself imports files of that folder.
 */
export function climbingImports(sources: readonly Source[]): string[] {
  const layerOf = (path: string): number => LAYERS.findIndex((layer) => layer.includes(topOf(path)))
  const leaves = new Set(
    sources
      .filter((source) =>
        ownImports(source).every((target) => !isInside(folderOf(target), folderOf(source.path))),
      )
      .map(({ path }) => path),
  )
  return sources.flatMap((source) =>
    ownImports(source).flatMap((target) => {
      const [from, to] = [topOf(source.path), topOf(target)]
      const sentence = `${source.path} imports ${target}`
      if (layerOf(source.path) < 0) return [`${from} has no layer`]
      if (from !== to) return layerOf(target) > layerOf(source.path) ? [] : [sentence]
      const [folder, targetFolder] = [folderOf(source.path), folderOf(target)]
      const isAbove = folder !== targetFolder && isInside(folder, targetFolder)
      return isAbove && !leaves.has(target) ? [sentence] : []
    }),
  )
}

/** Subfolders of one folder that import each other in a circle. */
export function folderCircles(sources: readonly Source[]): string[] {
  const edges = new Map<string, Set<string>>()
  for (const source of sources)
    for (const target of ownImports(source)) {
      const [a, b] = [source.path.split('/'), target.split('/')]
      let depth = 0
      while (a[depth] === b[depth] && depth < Math.min(a.length, b.length) - 1) depth += 1
      if (depth >= a.length - 1 || depth >= b.length - 1) continue
      const [from, to] = [a.slice(0, depth + 1).join('/'), b.slice(0, depth + 1).join('/')]
      edges.set(from, (edges.get(from) ?? new Set()).add(to))
    }
  const asSources = [...edges].map(([path, targets]) => ({
    path: `${path}.ts`,
    text: [...targets].map((to) => `import '${relativeTo(path, to)}.js'`).join('\n'),
  }))
  return circles(asSources).map((circle) => circle.replaceAll('.ts', ''))
}

function relativeTo(from: string, to: string): string {
  const path = posix.relative(posix.dirname(from), to)
  return path.startsWith('.') ? path : `./${path}`
}

/** Contracts that import from their own folder, if the folder has a factory, `open.ts`. */
export function contractsWithImplementation(sources: readonly Source[]): string[] {
  const paths = new Set(sources.map(({ path }) => path))
  return sources
    .filter(({ path }) => isContract(path) && paths.has(`${folderOf(path)}/open.ts`))
    .flatMap((source) =>
      ownImports(source)
        .filter((target) => isInside(folderOf(target), folderOf(source.path)))
        .map((target) => `the contract ${source.path} imports ${target}`),
    )
}

export function wrongImporters(sources: readonly Source[]): string[] {
  const packageOf = (name: string): string =>
    name
      .split('/')
      .slice(0, name.startsWith('@') ? 2 : 1)
      .join('/')
  return Object.entries(IMPORTERS).flatMap(([name, expected]) => {
    const importers = sources
      .filter((source) => importsOf(source).some((imported) => packageOf(imported) === name))
      .map(({ path }) => path)
    return importers.length === 1 && importers[0] === expected
      ? []
      : [`${name} is imported by ${importers.join(', ') || 'no file'}, expected ${expected} alone`]
  })
}

/** Importers of `Config` other than factories, `http/app.ts`, the server and the commands. */
export function configReaders(sources: readonly Source[]): string[] {
  const allowed = (path: string): boolean =>
    posix.basename(path) === 'open.ts' ||
    ['http/app.ts', 'server.ts', 'cli.ts', 'config.ts'].includes(path) ||
    topOf(path) === 'cli'
  return sources
    .filter(
      ({ path, text }) => !allowed(path) && /\bConfig\b[^;'"]*from '[^']*\/config\.js'/.test(text),
    )
    .map(({ path }) => `${path} sees Config`)
}

export function crowdedFolders(sources: readonly Source[]): string[] {
  const counts = new Map<string, number>()
  for (const { path } of sources) counts.set(folderOf(path), (counts.get(folderOf(path)) ?? 0) + 1)
  return [...counts]
    .filter(([, count]) => count > MAX_FILES)
    .map(([folder, count]) => `${folder} has ${count} files, expected ${MAX_FILES} at most`)
}

/** Files with a vague name, and files that only re-export others. */
export function vagueFiles(sources: readonly Source[]): string[] {
  const vague = sources
    .map(({ path }) => path)
    .filter((path) => path.split('/').some((part) => VAGUE_NAMES.includes(part.replace('.ts', ''))))
    // The collection that several services share.
    .filter((path) => path !== 'collection/milvus/shared.ts')
  const barrels = sources
    .filter(({ text }) => {
      const code = text.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '').trim()
      return code !== '' && code.replace(/export\s[^'"]*from\s*'[^']+'/g, '').trim() === ''
    })
    .map(({ path }) => path)
  return [
    ...vague.map((path) => `${path} has a name without a subject`),
    ...barrels.map((path) => `${path} only re-exports other files`),
  ]
}

export function longFiles(sources: readonly Source[]): string[] {
  return sources
    .map(({ path, text }) => ({ path, lines: text.split('\n').length - 1 }))
    .filter(({ lines }) => lines > MAX_LINES)
    .map(({ path, lines }) => `${path} has ${lines} lines, expected ${MAX_LINES} at most`)
}

/** Lines that the formatter could have broken: without a string, a template or an address. */
export function wideLines(sources: readonly Source[]): string[] {
  return sources.flatMap(({ path, text }) =>
    text
      .split('\n')
      .map((line, index) => ({ line, place: `${path}:${index + 1}` }))
      .filter(
        ({ line }) => line.length > MAX_COLUMNS && !/['"`]|https?:|\/.+\/[a-z]*[,;)]?$/.test(line),
      )
      .map(({ line, place }) => `${place} has ${line.length} columns`),
  )
}

/** Files below http/ and cli/ that know the web framework. */
export function frameworkBelowHttp(sources: readonly Source[]): string[] {
  return sources
    .filter(({ path }) => topOf(path) !== 'http')
    .flatMap((source) =>
      importsOf(source)
        .filter((name) => /^@?fastify/.test(name))
        .map((name) => `${source.path} imports ${name}`),
    )
}
