/**
 * Processor time of the graphs of a bundle with BLIP beside a dual encoder, by image and pair.
 *
 *   training/.venv/bin/python bench/models/beside-bundles.py FOLDER
 *   node --import ./test/support/run-source.mjs bench/models/beside-cost.ts FOLDER/stored
 */
import { join } from 'node:path'
import { openBundle } from '../../src/model/bundle/open.js'
import { dryRunInputs } from '../../src/model/onnx/dry-run.js'
import { graphSpecs } from '../../src/model/onnx/graph-inputs.js'
import { Session } from '../../src/model/onnx/session.js'

const TOKENS = 16
const ROWS = { image: 2, tokens: 2, fusion: 4 }

const folder = process.argv[2] ?? ''
const specs = graphSpecs((await openBundle(folder)).manifest)
for (const [graph, rows] of Object.entries(ROWS)) {
  const spec = specs[graph as keyof typeof ROWS]
  if (spec === undefined) continue
  const session = await Session.openFile(join(folder, spec.file), spec, 1)
  const inputs = dryRunInputs(spec, { rows, tokens: TOKENS })
  await session.run(inputs)
  const before = process.cpuUsage()
  await session.run(inputs)
  const { user, system } = process.cpuUsage(before)
  console.log(graph, `${((user + system) / 1000 / rows).toFixed(0)} ms of processor time`)
  await session.release()
}
