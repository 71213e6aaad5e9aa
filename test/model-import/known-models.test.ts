import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { hubModel } from '../../src/model-hub/hub.js'
import {
  knownModelLines,
  knownModels,
  type KnownModel,
} from '../../src/model-import/known-models.js'

const known = await knownModels(
  fileURLToPath(new URL('../../models/known-models.json', import.meta.url)),
)

it('Every figure of a known model has a source, and every id is one of the hub', () => {
  expect(known.models.length).toBeGreaterThan(5)
  for (const {
    id,
    license,
    languages,
    recall,
    memory_mib: memory,
    size_mb: size,
  } of known.models) {
    expect(hubModel(id), id).not.toBeNull()
    expect(license).toMatch(/^[a-z0-9.-]+$/)
    expect(languages.length).toBeGreaterThan(0)
    for (const figure of [...recall, memory, size])
      if (figure !== undefined) expect(Object.keys(known.sources)).toContain(figure.source)
  }
})

it('Known models say whether they fit the memory and whether they may be sold', () => {
  const model: KnownModel = {
    id: 'a/b',
    what: 'a model',
    languages: ['mul'],
    license: 'cc-by-nc-4.0',
    memory_mib: { value: 3072, source: 'paper' },
    recall: [{ what: 'COCO R@1', value: '50.0', source: 'paper' }],
  }
  const lines = (gib: number, changes: Partial<KnownModel> = {}): string =>
    knownModelLines(
      {
        sources: { paper: 'A. Author 2026', other: 'not cited' },
        models: [{ ...model, ...changes }],
      },
      gib * 2 ** 30,
    ).join('\n')
  expect(lines(8)).toMatch(/cc-by-nc-4.0 \(forbids commercial use\).*3.0 GiB \[paper\], fits this/)
  expect(lines(2)).toMatch(/does not fit this machine, which has 2.0 GiB/)
  expect(lines(8)).toMatch(/COCO R@1 50.0 \[paper\]\n {2}\[paper\] A. Author 2026$/)
  expect(lines(8, { recall: [], license: 'mit' })).toMatch(/· mit ·.*recall not known/)
})
