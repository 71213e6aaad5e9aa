/** Holds the sources to the rules of docs/architecture.md, and each rule to a violation of it. */
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import {
  circles,
  climbingImports,
  configReaders,
  contractsWithImplementation,
  crowdedFolders,
  vagueFiles,
  folderCircles,
  frameworkBelowHttp,
  IMPORTERS,
  longFiles,
  readSources,
  strayTopFiles,
  unknownImports,
  wideLines,
  wrongImporters,
  type Source,
} from './support/architecture.js'

const sources = readSources(fileURLToPath(new URL('../src', import.meta.url)))

const file = (path: string, text = ''): Source => ({ path, text })
const importing = (path: string, ...names: string[]): Source =>
  file(path, names.map((name) => `import { x } from '${name}'`).join('\n'))

interface Rule {
  name: string
  violations: (sources: readonly Source[]) => string[]
  /** Sources that break the rule, and the sentence for it. */
  broken: Source[]
  sentence: string
}

const rules: Rule[] = [
  {
    name: 'every import of a file of ours exists',
    violations: unknownImports,
    broken: [importing('model/a.ts', './b.js')],
    sentence: 'model/a.ts imports model/b.ts, which does not exist',
  },
  {
    name: 'only the five files lie at the top of src',
    violations: strayTopFiles,
    broken: [file('stray.ts')],
    sentence: 'stray.ts lies at the top of src/',
  },
  {
    name: 'no file reaches itself by its imports, types included',
    violations: circles,
    broken: [
      file('model/a.ts', "import type { B } from './b.js'"),
      file('model/b.ts', "import type { A } from './a.js'"),
    ],
    sentence: 'model/a.ts → model/b.ts → model/a.ts',
  },
  {
    name: 'no import climbs from a folder to one above it',
    violations: climbingImports,
    broken: [importing('model/a.ts', '../http/app.js')],
    sentence: 'model/a.ts imports http/app.ts',
  },
  {
    name: 'a folder inside another imports only leaves of the outer one',
    violations: climbingImports,
    broken: [
      file('model/models.ts'),
      importing('model/open.ts', './models.js'),
      importing('model/onnx/a.ts', '../models.js', '../open.js'),
    ],
    sentence: 'model/onnx/a.ts imports model/open.ts',
  },
  {
    name: 'folders beside each other import in one direction',
    violations: folderCircles,
    broken: [
      importing('model/onnx/a.ts', '../queue/b.js'),
      importing('model/queue/c.ts', '../onnx/d.js'),
    ],
    sentence: 'model/onnx → model/queue → model/onnx',
  },
  {
    name: 'a contract beside its factory imports nothing of its folder',
    violations: contractsWithImplementation,
    broken: [
      importing('image-store/image-store.ts', './bucket-place.js'),
      importing('image-store/open.ts', './bucket-place.js'),
    ],
    sentence: 'the contract image-store/image-store.ts imports image-store/bucket-place.ts',
  },
  {
    name: 'each native package and each client of an engine has one importer',
    violations: wrongImporters,
    broken: [
      ...Object.entries(IMPORTERS).map(([name, path]) => importing(path, name)),
      importing('retrieval/a.ts', 'sharp'),
    ],
    sentence:
      'sharp is imported by model/image/preprocess.ts, retrieval/a.ts, expected model/image/preprocess.ts alone',
  },
  {
    name: 'only factories, the app, the server and the commands see Config',
    violations: configReaders,
    broken: [
      file('model/a.ts', "import type { Config } from '../config.js'"),
      file('model/open.ts', "import type { Config } from '../config.js'"),
    ],
    sentence: 'model/a.ts sees Config',
  },
  {
    name: 'a folder has some twenty files at most',
    violations: crowdedFolders,
    broken: Array.from({ length: 21 }, (_, index) => file(`model/${index}.ts`)),
    sentence: 'model has 21 files, expected 20 at most',
  },
  {
    name: 'no folder or file is a drawer without a subject',
    violations: vagueFiles,
    broken: [file('model/utils.ts', 'export const a = 1')],
    sentence: 'model/utils.ts has a name without a subject',
  },
  {
    name: 'no file only hands on the exports of others',
    violations: vagueFiles,
    broken: [file('model/all.ts', "export { a } from './a.js'\nexport * from './b.js'\n")],
    sentence: 'model/all.ts only re-exports other files',
  },
  {
    name: 'no file is longer than 400 lines',
    violations: longFiles,
    broken: [file('model/a.ts', 'x\n'.repeat(401))],
    sentence: 'model/a.ts has 401 lines, expected 400 at most',
  },
  {
    name: 'no line is wider than 100 columns where the formatter can break it',
    violations: wideLines,
    broken: [file('model/a.ts', `const a = ${'b + '.repeat(30)}c`)],
    sentence: 'model/a.ts:1 has 131 columns',
  },
  {
    name: 'only http knows the web framework',
    violations: frameworkBelowHttp,
    broken: [importing('retrieval/a.ts', 'fastify')],
    sentence: 'retrieval/a.ts imports fastify',
  },
]

describe('the sources', () => {
  it('are found', () => {
    expect(sources.length).toBeGreaterThan(100)
  })

  it.each(rules)('$name', ({ violations }) => {
    expect(violations(sources)).toEqual([])
  })
})

describe('a rule broken on purpose is reported', () => {
  it.each(rules)('$name', ({ violations, broken, sentence }) => {
    expect(violations(broken)).toEqual([sentence])
  })
})
