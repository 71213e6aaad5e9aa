/** Recall of the shipped bundle over HTTP equals the recall that training measured exactly. */
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { readShards } from '../../src/cli/captions/dataset.js'
import { evaluate, type Evaluation } from '../../src/cli/evaluate.js'
import { ownService, type Service } from '../../src/cli/service.js'
import { packageFolder, readConfig } from '../../src/config.js'

vi.setConfig({ testTimeout: 180_000 })

interface Figures {
  r1: number
  r5: number
  r10: number
}
type Recall = { text_to_image: Record<'itc' | 'rerank@64', Figures> }
interface Recorded {
  metrics: { 'flickr8k-dev': { bundle: Recall; bundle_first_100: Recall } }
}

const shard = join(packageFolder, '..', 'shared', 'data', 'flickr8k-dev-0000.tar')
const bundle = join(packageFolder, 'models', 'tandem-small')
const there = existsSync(shard)
// Percentage points: five of 500 captions. JPEG decoders and rounding differ, which turns near
// ties; over all 5,000 captions the figures agree within 0.3.
const TOLERANCE = 1

describe.skipIf(!there)(
  `recall on 100 photos${there ? '' : ` (skipped: ${shard} is not there)`}`,
  () => {
    let folder: string
    let service: Service
    let found: Evaluation
    const { metrics } = JSON.parse(readFileSync(join(bundle, 'manifest.json'), 'utf8')) as Recorded
    const expected = metrics['flickr8k-dev']?.bundle_first_100.text_to_image

    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'tandem-recall-'))
      service = await ownService({
        ...readConfig({}),
        dataFolder: folder,
        modelFolder: bundle,
        port: 0,
      })
      const photos = (await readShards([shard], 'en')).slice(0, 100)
      const options = { candidates: 64, rerank: true, imageToText: false, language: 'en' }
      found = await evaluate(service.client, photos, options, {
        out: new PassThrough(),
        err: new PassThrough(),
      })
    }, 600_000)
    afterAll(async () => {
      await service.close()
      await rm(folder, { recursive: true, force: true })
    })

    it.each([
      ['similarity', 'itc'],
      ['rerank', 'rerank@64'],
    ] as const)('by %s is what training recorded', (ours, theirs) => {
      for (const k of ['r1', 'r5', 'r10'] as const) {
        expect(
          Math.abs((found.text_to_image[ours]?.[k] ?? 0) - expected[theirs][k]),
        ).toBeLessThanOrEqual(TOLERANCE)
      }
    })

    // On a hundred images the gain is chance, so it is checked on the record of all images.
    it('rerank raises recall on all images, summed over the three depths', () => {
      const sum = ({ r1, r5, r10 }: Figures): number => r1 + r5 + r10
      const { itc, 'rerank@64': rerank } = metrics['flickr8k-dev'].bundle.text_to_image
      expect(sum(rerank)).toBeGreaterThan(sum(itc))
    })
  },
)
