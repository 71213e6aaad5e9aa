/** `tandem models add` with a name of the hub, as a user runs it. */
import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { readConfig } from '../../src/config.js'
import { buildApp } from '../../src/http/app.js'
import { MODEL } from '../../src/model/onnx/onnx-schema.js'
import type { Model } from '../../src/model-import/graph.js'
import { ID, startHub, type HubServer } from '../support/hub-server.js'
import { makeImmichFolder } from '../support/immich-folder.js'

vi.setConfig({ testTimeout: 120_000 })

let scratch = ''
let hub: HubServer

async function models(...args: string[]): Promise<{ stdout: string; stderr: string }> {
  const run = promisify(execFile)
  return run(process.execPath, ['--import', 'tsx', 'src/cli.ts', 'models', ...args], {
    env: { PATH: process.env.PATH, HF_HOME: join(scratch, 'home'), HF_ENDPOINT: hub.endpoint },
  }).catch((error: Error & { stdout: string; stderr: string }) => error)
}

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'tandem-models-'))
  hub = await startHub()
  const folder = makeImmichFolder(join(scratch, 'whole'))
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    const name = path.slice(folder.length + 1)
    hub.files.set(name, { content: readFileSync(path), large: name.endsWith('.onnx') })
  }
  const graph = hub.files.get('visual/model.onnx')?.content ?? Buffer.alloc(0)
  const [model, weights] = withSideFile(graph)
  hub.files.set('visual/model.onnx', { content: model, large: true })
  hub.files.set('visual/model.onnx_data', { content: weights, large: true })
  hub.files.set('rknpu/rk3588/model.rknn', { content: Buffer.alloc(10), large: true })
  hub.files.set('README.md', { content: Buffer.from('---\nlicense: cc-by-nc-4.0\n---\n') })
})
afterAll(async () => {
  await hub.close()
  rmSync(scratch, { recursive: true, force: true })
})

/** Moves the large weights of a graph into a file beside it. */
function withSideFile(graph: Buffer): [Buffer, Buffer] {
  const model = MODEL.decode(graph) as unknown as Model
  const pieces: Uint8Array[] = []
  let offset = 0
  for (const weight of model.graph.initializer ?? []) {
    const { raw_data: raw } = weight
    if (raw === undefined || raw.length < 64) continue
    weight.data_location = 1
    weight.external_data = Object.entries({
      location: 'model.onnx_data',
      offset: String(offset),
      length: String(raw.length),
    }).map(([key, value]) => ({ key, value }))
    delete weight.raw_data
    pieces.push(raw)
    offset += raw.length
  }
  return [Buffer.from(MODEL.encode(model).finish()), Buffer.concat(pieces)]
}

it('A model of the hub is fetched into its cache and becomes a bundle with its license', async () => {
  const into = join(scratch, 'bundles')
  const { stdout, stderr } = await models('add', ID, '--into', into)
  expect(stderr).toMatch(/Fetches 8 of 9 files of some-owner\/some-model/)
  expect(stderr).toMatch(/100 % of/)
  expect(stdout).toMatch(/License: cc-by-nc-4.0 \(forbids commercial use\)/)
  expect(stdout).toMatch(/Added: .*some-model\n/)
  const manifest = JSON.parse(
    readFileSync(join(into, 'some-model/manifest.json'), 'utf8'),
  ) as object
  expect(manifest).toMatchObject({
    name: 'some-model',
    source: `${ID}@${hub.commit}`,
    commercial_use: false,
  })
  const card = readFileSync(join(into, 'some-model/README.md'), 'utf8')
  expect(card).toContain('License of the weights: cc-by-nc-4.0. **It forbids commercial use.**')
  const tandem = await buildApp({
    ...readConfig({ DIALECTS: 'openai' }),
    logLevel: 'silent',
    dataFolder: join(scratch, 'data'),
    modelFolder: join(into, 'some-model'),
    inferenceThreads: 1,
  })
  await tandem.start()
  const served = await tandem.app.inject('/models').finally(() => tandem.close())
  expect(served.json()).toMatchObject({
    data: [{ license: 'cc-by-nc-4.0', commercial_use: false }],
  })
})

it('A name that is neither a folder nor a model is refused with both', async () => {
  const { stderr } = await models('add', 'some-owner/other', '--into', scratch)
  expect(stderr).toMatch(/There is no folder some-owner\/other/)
  expect(stderr).toMatch(/tandem: .* has no model some-owner\/other, or it is private/)
})
