/** Graphs that are prepared at the first start, and loaded at those after it. */
import {
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { packageFolder } from '../../../src/config.js'
import { openModels } from '../../../src/model/open.js'
import type { Models } from '../../../src/model/models.js'
import { GraphCache } from '../../../src/model/inference/graph-cache.js'

vi.setConfig({ testTimeout: 60_000 })

let root: string

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'tandem-prepared-'))
})

afterEach(async () => {
  await rm(root, { recursive: true, force: true })
})

const graphsOf = (fingerprint: string, runtime = '1.0'): GraphCache<{ rows: number }> =>
  new GraphCache(root, fingerprint, runtime, 'service')
const write = async (fileOf: (graph: 'text') => string): Promise<void> => {
  await writeFile(fileOf('text'), 'graph')
  await writeFile(`${fileOf('text')}.weights`, 'weights')
}

describe('prepared graphs', () => {
  it('are complete once built, with their measurement, for one bundle and runtime alone', async () => {
    const graphs = graphsOf('a')
    expect([await graphs.isComplete(), await graphs.measured()]).toEqual([false, null])
    await graphs.make(write)
    await graphs.saveMeasured({ rows: 4 })
    expect([await graphsOf('a').isComplete(), await graphsOf('a').measured()]).toEqual([
      true,
      { rows: 4 },
    ])
    expect(await graphsOf('b').isComplete()).toBe(false)
    expect(await graphsOf('a', '1.1').isComplete()).toBe(false)
  })

  it('are made again where a file was cut off', async () => {
    const graphs = graphsOf('a')
    await graphs.make(write)
    await truncate(`${graphs.fileOf('text')}.weights`, 2)
    expect(await graphs.isComplete()).toBe(false)
    await graphs.make(write)
    expect(await graphs.isComplete()).toBe(true)
  })

  it.each(['text.onnx', 'text.onnx.weights', 'complete.json'])(
    'are made again where a bit of %s has flipped, or the file is empty',
    async (name) => {
      const graphs = graphsOf('a')
      await graphs.make(write)
      const file = join(graphs.fileOf('text'), '..', name)
      const bytes = await readFile(file)
      bytes[bytes.length - 2] = (bytes.at(-2) as number) ^ 1
      for (const damaged of [bytes, '', '{}', '[1]', '{"text.onnx":5}']) {
        await writeFile(file, damaged)
        expect(await graphs.isComplete()).toBe(false)
        await graphs.make(write)
        expect(await graphs.isComplete()).toBe(true)
      }
    },
  )

  it('have no measurement where it is damaged', async () => {
    const graphs = graphsOf('a')
    await graphs.make(write)
    await graphs.saveMeasured({ rows: 4 })
    const file = join(graphs.fileOf('text'), '..', 'measured.json')
    const saved = await readFile(file, 'utf8')
    for (const damaged of ['', '{', '{}', 'null', '{"rows":4}', saved.replace('4', '5')]) {
      await writeFile(file, damaged)
      expect(await graphs.measured()).toBe(null)
    }
    await graphs.saveMeasured({ rows: 4 })
    expect(await graphs.measured()).toEqual({ rows: 4 })
  })

  it('leave no files when they cannot be written, and only those of the last two bundles', async () => {
    const failing = graphsOf('a').make(async (fileOf) => {
      await write(fileOf)
      throw new Error('the disk is full')
    })
    await expect(failing).rejects.toThrow('the disk is full')
    expect(await readdir(root)).toEqual([])
    await mkdir(join(root, 'new-left-by-a-killed-process'))
    await utimes(join(root, 'new-left-by-a-killed-process'), 1, 1)
    // A start asks first.
    expect(await graphsOf('a').isComplete()).toBe(false)
    for (const [at, name] of ['a', 'b', 'c'].entries()) {
      await graphsOf(name).make(write)
      await Promise.all(
        (await readdir(root))
          .filter((folder) => folder.startsWith(name))
          .map((folder) => utimes(join(root, folder), at + 2, at + 2)),
      )
    }
    expect((await readdir(root)).map(([first]) => first).sort()).toEqual(['b', 'c'])
  })
})

describe.each(['tandem-small', 'tandem-small-int8'])(
  'a bundle whose graphs are worth it: %s',
  (name) => {
    const texts = ['a dog runs along the beach', 'two children']
    const open = (): Promise<Models> =>
      openModels({
        folder: join(packageFolder, 'models', name),
        inferenceThreads: 1,
        maxImagePixels: 1e6,
        graphCacheFolder: root,
      })
    const embeddings = async (): Promise<number[][]> => {
      const models = await open()
      try {
        return (await models.encodeTexts(texts)).encoded.map(({ embedding }) => [...embedding])
      } finally {
        await models.close()
      }
    }

    it('gives the same outputs at the first start, at the second, and without a writable folder', async () => {
      const first = await embeddings()
      expect(await readdir(root)).toHaveLength(1)
      expect(await embeddings()).toEqual(first)
      await rm(root, { recursive: true })
      // A file where the folder should be.
      await writeFile(root, '')
      const without = await embeddings()
      without.forEach((embedding, row) =>
        embedding.forEach((value, i) => expect(value).toBeCloseTo(first[row]?.[i] ?? NaN, 5)),
      )
    }, 120_000)
  },
)
