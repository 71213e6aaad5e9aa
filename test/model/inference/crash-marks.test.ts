/** Cached graphs that crash their process, though their files are sound. */
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { spawnSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { packageFolder } from '../../../src/config.js'
import { CrashMarks, noteMadeAgain } from '../../../src/model/inference/crash-marks.js'
import { openModels } from '../../../src/model/open.js'

vi.setConfig({ testTimeout: 60_000 })

let root: string

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'tandem-marks-'))
})

afterEach(async () => {
  await rm(root, { recursive: true, force: true })
})

describe('marks of processes', () => {
  const marksOf = (service: string): CrashMarks => new CrashMarks(root, service)
  const ended = spawnSync('true').pid

  it('tell nothing of work that ends, and of processes that are alive', async () => {
    const marks = marksOf('a')
    await marks.during(async () => {
      expect(await readdir(root)).toEqual([`loading-a-${process.pid}`])
    })
    const failing = marks.during(() => Promise.reject(new Error('no graph')))
    await expect(failing).rejects.toThrow('no graph')
    expect(await readdir(root)).toEqual([])
    await writeFile(join(root, `loading-a-${process.ppid}`), '')
    expect(await marks.crashes()).toBe(0)
  })

  it.each([
    ['of this service', `loading-a-${ended}`],
    ['of a process with the same id', `loading-a-${process.pid}`],
    ['of an earlier service, whose id another process may have', `loading-b-${process.ppid}`],
  ])('tell of a process that has ended: %s', async (_, name) => {
    await writeFile(join(root, name), '')
    expect(await marksOf('a').crashes()).toBe(1)
    await noteMadeAgain(root)
    expect(await marksOf('a').crashes()).toBe(2)
    marksOf('a').trust()
    expect(await readdir(root)).toEqual([])
  })

  it('are left out where the folder is missing', async () => {
    await rm(root, { recursive: true })
    expect(await marksOf('a').crashes()).toBe(0)
    expect(await marksOf('a').during(() => Promise.resolve(5))).toBe(5)
    marksOf('a').trust()
    expect(existsSync(root)).toBe(false)
    await mkdir(root)
  })
})

describe('cached graphs that crash their process', () => {
  const sentences: string[] = []
  const { execArgv } = process

  afterEach(() => {
    process.execArgv = execArgv
    sentences.length = 0
  })

  const start = async (): Promise<number[]> => {
    sentences.length = 0
    const models = await openModels({
      folder: join(packageFolder, 'models/tandem-small'),
      inferenceThreads: 2,
      maxImagePixels: 1e6,
      graphCacheFolder: join(root, 'graphs'),
      report: (sentence) => sentences.push(sentence),
    })
    try {
      return [...((await models.encodeTexts(['a dog'])).encoded[0]?.embedding ?? [])]
    } finally {
      await models.close()
    }
  }
  const remarks = (): string[] => sentences.filter((sentence) => sentence.includes('cached in'))
  const madeAgain = expect.stringMatching(/first ran one; they are made again\.$/) as string
  const unused = expect.stringMatching(/; the cache is not used\. Remove the folder/) as string

  /**
   * Workers end at a call of the runtime with cached graphs.
   *
   * @param onlyOnce - at the first call of all workers alone
   */
  const crashAt = async (method: 'create' | 'run', onlyOnce = false): Promise<void> => {
    const [module, crashed] = [join(root, 'crash.mjs'), join(root, 'crashed')]
    const code = `
      import { existsSync, writeFileSync } from 'node:fs'
      import { createRequire } from 'node:module'
      if (process.argv[1].includes('inference/worker')) {
        const { InferenceSession } = createRequire('${import.meta.url}')('onnxruntime-node')
        const { create } = InferenceSession
        const end = (method) => {
          if (method !== '${method}' || (${onlyOnce} && existsSync('${crashed}'))) return
          writeFileSync('${crashed}', '')
          process.kill(process.pid, 'SIGSEGV')
        }
        InferenceSession.create = async (graph, options) => {
          // Graphs of the bundle are given as bytes.
          const isCached = typeof graph === 'string'
          if (isCached) end('create')
          const session = await create.call(InferenceSession, graph, options)
          const { run } = session
          session.run = (...all) => {
            if (isCached) end('run')
            return run.apply(session, all)
          }
          return session
        }
      }`
    await writeFile(module, code)
    process.execArgv = [...execArgv, '--import', module]
  }

  it('when they are loaded are made again, and then not used; each start works', async () => {
    const expected = await start()
    expect(remarks()).toEqual([])
    await crashAt('create')
    const got = await start()
    expect(remarks()).toEqual([madeAgain, unused])
    got.forEach((value, at) => expect(value).toBeCloseTo(expected[at] ?? NaN, 5))
  })

  it('when they first run are used again after one crash, and not after two', async () => {
    await start()
    await crashAt('run', true)
    await start()
    expect(remarks()).toEqual([madeAgain])
    await crashAt('run')
    await start()
    expect(remarks()).toEqual([madeAgain, unused])
    await start()
    expect(sentences).toEqual([unused])
  })
})
