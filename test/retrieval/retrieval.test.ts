import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Collection, RecallOptions } from '../../src/collection/collection.js'
import { parseFilter } from '../../src/filter/parse.js'
import { Retrieval } from '../../src/retrieval/retrieval.js'
import { startTestService, type TestService } from '../support/test-service.js'
import { embeddingOf, WordModels } from '../support/word-models.js'

let tandem: TestService

beforeEach(async () => {
  tandem = await startTestService()
})
afterEach(() => tandem.end())

const add = (id: string, word: string) =>
  tandem.retrieval.add({ id, image: Buffer.from(word), payload: null })

/** The item store and the index have the same ids and embeddings. */
async function expectAgreement(): Promise<void> {
  const stored = (await tandem.retrieval.list({ limit: 1000 })).items
  expect([...tandem.index.ids()].sort()).toEqual(stored.map(({ id }) => id).sort())
  for (const { id } of stored)
    expect(tandem.index.vectors.get(id), id).toEqual((await tandem.retrieval.get(id)).embedding)
}

describe('writes', () => {
  it('keep store and index equal if they change one id concurrently', async () => {
    await Promise.all(
      Array.from({ length: 60 }, (_, at) =>
        at % 3 === 2 ? tandem.retrieval.remove(`id-${at % 4}`) : add(`id-${at % 4}`, `word${at}`),
      ),
    )
    await expectAgreement()
    await Promise.all([add('last', 'dog'), tandem.retrieval.remove('last'), add('last', 'cat')])
    expect(tandem.index.vectors.get('last')).toEqual(embeddingOf('cat'))
    await expectAgreement()
  })

  it('are refused at once when too many wait, and those accepted succeed', async () => {
    const outcomes = await Promise.allSettled(
      Array.from({ length: 3000 }, (_, at) => tandem.retrieval.remove(`id-${at}`)),
    )
    const refused = outcomes.filter((outcome) => outcome.status === 'rejected')
    expect(refused.length).toBe(3000 - 2048)
    expect(refused[0]).toMatchObject({ reason: { code: 'overloaded', retryAfterS: 1 } })
    expect(await tandem.retrieval.remove('later')).toBe(false)
  })

  it('return whether they created or replaced the item', async () => {
    const outcomes = await Promise.all([add('a', 'dog'), add('b', 'dog'), add('a', 'cat')])
    expect(outcomes.map(({ status }) => status)).toEqual(['created', 'created', 'replaced'])
    expect(await Promise.all([tandem.retrieval.remove('a'), tandem.retrieval.remove('a')])).toEqual(
      [true, false],
    )
  })

  it('repair an index that missed earlier writes', async () => {
    await add('before', 'dog')
    tandem.index.fail = new Error('worker gone')
    await expect(add('missed', 'cat')).rejects.toThrow('worker gone')
    await expect(tandem.retrieval.remove('before')).rejects.toThrow('worker gone')
    tandem.index.fail = undefined
    await add('after', 'horse')
    expect([...tandem.index.ids()]).toContain('missed')
    await expectAgreement()
  })
})

describe('after the loss of the index process', () => {
  it('searches and writes are refused and nothing is stored until the index is repaired', async () => {
    await add('dog', 'dog')
    tandem.index.lose()
    await expect(tandem.retrieval.search({ text: 'dog' }, {})).rejects.toMatchObject({
      code: 'index_unavailable',
    })
    await expect(add('cat', 'cat')).rejects.toMatchObject({ code: 'index_unavailable' })
    await expect(tandem.retrieval.remove('dog')).rejects.toMatchObject({
      code: 'index_unavailable',
    })
    expect((await tandem.retrieval.list({ limit: 10 })).items.map(({ id }) => id)).toEqual(['dog'])
    tandem.index.returns()
    await expect.poll(() => tandem.index.lost).toBe(false)
    await expectAgreement()
    expect((await tandem.retrieval.search({ text: 'dog' }, {})).hits.map(({ id }) => id)).toEqual([
      'dog',
    ])
    await add('cat', 'cat')
    await expectAgreement()
  })

  it('the next write repairs the index if the first repair failed', async () => {
    await add('dog', 'dog')
    tandem.index.lose()
    tandem.index.onReturnCall()
    tandem.index.fail = undefined
    await add('cat', 'cat')
    expect(tandem.index.lost).toBe(false)
    await expectAgreement()
  })

  it('no snapshot is saved', async () => {
    await add('dog', 'dog')
    tandem.index.lose()
    await tandem.retrieval.save()
    expect(tandem.index.saves).toBe(0)
  })
})

describe('a start', () => {
  it('fills an empty index from the store', async () => {
    for (const word of ['dog', 'cat', 'horse']) await add(word, word)
    tandem.index.vectors.clear()
    tandem.index.position = 0
    expect(await tandem.retrieval.start()).toEqual({ replayed: 3, removed: 0 })
    await expectAgreement()
  })

  it('replays only changes after the snapshot, with removals', async () => {
    for (const word of ['dog', 'cat', 'horse']) await add(word, word)
    const vectors = new Map(tandem.index.vectors)
    const { position } = tandem.index
    await add('cat', 'zebra')
    await tandem.retrieval.remove('dog')
    tandem.index.vectors.clear()
    for (const [id, vector] of vectors) tandem.index.vectors.set(id, vector)
    tandem.index.position = position
    expect(await tandem.retrieval.start()).toEqual({ replayed: 1, removed: 1 })
    await expectAgreement()
  })

  it('rebuilds an index whose position is ahead of the store', async () => {
    await add('dog', 'dog')
    tandem.index.vectors.set('unknown', embeddingOf('cat'))
    tandem.index.vectors.set('dog', embeddingOf('cat'))
    tandem.index.position = 99
    await tandem.retrieval.start()
    await expectAgreement()
    expect(await tandem.retrieval.start()).toEqual({ replayed: 0, removed: 0 })
  })
})

describe('a search', () => {
  it('leaves out items removed after the recall', async () => {
    await add('dog', 'dog')
    tandem.index.vectors.set('ghost', embeddingOf('dog'))
    const { hits } = await tandem.retrieval.search({ text: 'dog' }, {})
    expect(hits.map(({ id }) => id)).toEqual(['dog'])
  })

  it('passes its filter to the recall and leaves out items replaced so that they fail it', async () => {
    const filters: unknown[] = []
    const item = (id: string, album: string) => ({
      id,
      payload: { album },
      imageTokens: new Int8Array(4),
      embedding: embeddingOf(id),
    })
    const items = {
      recall: (_: Float32Array, __: number, options: RecallOptions) => {
        filters.push(options.filter)
        return Promise.resolve(['dog', 'cat', 'gone'].map((id) => ({ id, similarity: 0.5 })))
      },
      getMany: () => Promise.resolve([item('dog', 'sea'), item('cat', 'land'), undefined]),
      payloads: () => Promise.resolve([{ album: 'sea' }, { album: 'land' }, undefined]),
      size: 3,
    }
    const lease = {
      models: new WordModels(),
      items,
      isOutdated: false,
      [Symbol.dispose]: () => undefined,
    }
    const retrieval = new Retrieval({ acquire: () => lease } as unknown as Collection)
    const filter = parseFilter({ must: [{ key: 'album', match: 'sea' }] })
    for (const rerank of [true, false]) {
      const { hits } = await retrieval.search({ text: 'dog' }, { filter, rerank })
      expect(hits.map(({ id }) => id)).toEqual(['dog'])
    }
    expect(filters).toEqual([filter, filter])
  })

  it('returns no hits if there are no items', async () => {
    expect((await tandem.retrieval.search({ text: 'dog' }, {})).hits).toEqual([])
  })
})

describe('an embedding without length 1', () => {
  it.each([Number.NaN, 0])(
    'with all values %d is not stored, and later writes succeed',
    async (value) => {
      tandem.models.invalidValue = value
      await expect(add('invalid', 'dog')).rejects.toThrow('length 1')
      tandem.models.invalidValue = undefined
      await add('after', 'dog')
      expect([...tandem.index.ids()]).toEqual(['after'])
      await expectAgreement()
    },
  )
})

describe('save', () => {
  it('writes a snapshot only after a change', async () => {
    await tandem.retrieval.save()
    expect(tandem.index.saves).toBe(0)
    await add('dog', 'dog')
    await tandem.retrieval.save()
    await tandem.retrieval.save()
    expect(tandem.index.saves).toBe(1)
    await tandem.retrieval.remove('dog')
    await tandem.retrieval.save()
    expect(tandem.index.saves).toBe(2)
  })
})

describe('save during endless writes', () => {
  it('ends', async () => {
    let stopped = false
    // An add and a removal are never in one group, so one of them always waits.
    const repeat = async (write: () => Promise<unknown>): Promise<void> => {
      while (!stopped) await write()
    }
    const writers = [repeat(() => add('a', 'dog')), repeat(() => tandem.retrieval.remove('b'))]
    await add('first', 'dog')
    await tandem.retrieval.save()
    expect(tandem.index.saves).toBe(1)
    stopped = true
    await Promise.all(writers)
    await expectAgreement()
  })
})

describe('close', () => {
  it('saves the index once', async () => {
    await add('dog', 'dog')
    await Promise.all([tandem.close(), tandem.close()])
    expect(tandem.index.saves).toBe(1)
  })
})

describe('the inputs of one request', () => {
  it('are cancelled if one fails or the request is aborted', async () => {
    const signals: AbortSignal[] = []
    tandem.models.gate = async (signal) => {
      if (signal !== undefined) signals.push(signal)
      await new Promise((resolve) => setImmediate(resolve))
    }
    const inputs = [{ text: 'dog' }, { image: Buffer.from('bad') }, { image: Buffer.from('cat') }]
    await expect(tandem.retrieval.embed(inputs)).rejects.toThrow('inputs[1]')
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, true, true])

    const controller = new AbortController()
    tandem.models.gate = (signal) =>
      new Promise((_, reject) =>
        signal?.addEventListener('abort', () => reject(signal.reason as Error)),
      )
    const rejection = expect(
      tandem.retrieval.embed([{ text: 'dog' }], { signal: controller.signal }),
    ).rejects.toThrow('gone')
    controller.abort(new Error('gone'))
    await rejection
  })
})

describe('a pipeline stage', () => {
  it('encodes tokens and images only if they are matched or stored', async () => {
    const { models } = tandem
    // Calls of the start.
    models.embeddingOnly.splice(0)
    await add('dog', 'dog')
    await tandem.retrieval.search({ text: 'dog' }, {})
    await tandem.retrieval.rerank({ text: 'dog' }, [{ id: 'dog' }])
    expect(models.embeddingOnly.splice(0)).toEqual([false, false, false])
    await tandem.retrieval.search({ text: 'dog' }, { rerank: false })
    await tandem.retrieval.search({ image: Buffer.from('dog') }, {})
    await tandem.retrieval.embed([{ text: 'dog' }, { image: Buffer.from('dog') }])
    expect(models.embeddingOnly).toEqual([true, true, true, true])
  })

  it('recalls only as many candidates as hits if it does not rerank', async () => {
    await Promise.all(['a', 'b', 'c', 'd'].map((id) => add(id, `dog ${id}`)))
    const asked: number[] = []
    const search = tandem.index.search.bind(tandem.index)
    tandem.index.search = (embedding, candidates) => (
      asked.push(candidates),
      search(embedding, candidates)
    )
    await tandem.retrieval.search({ text: 'dog' }, { k: 2, rerank: false })
    await tandem.retrieval.search({ id: 'a' }, { k: 2 })
    await tandem.retrieval.search({ text: 'dog' }, { k: 2 })
    expect(asked).toEqual([2, 3, 8])
  })
})
