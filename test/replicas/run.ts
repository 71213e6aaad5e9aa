/**
 * The drain test: `npm run drain -- --requests 5000`. Restarts three services one by one, over and
 * over, while clients send requests to a balancer, and writes its figures to docs/reliability.md.
 * Ends with 1 if a request fails or an acknowledged item is missing.
 */
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { replaceBetween } from '../../scripts/reliability-page.js'
import { hasMilvus, withoutMilvus } from '../support/milvus.js'
import { Fleet } from './fleet.js'
import { load, missing } from './load.js'

const { values } = parseArgs({
  options: {
    requests: { type: 'string', default: '5000' },
    clients: { type: 'string', default: '8' },
  },
})
if (!hasMilvus) throw new Error(`there is no milvus-lite ${withoutMilvus}`)

const fleet = await Fleet.start()
try {
  let isOver = false
  let restarts = 0
  const rolling = (async () => {
    while (!isOver) {
      await fleet.roll()
      restarts += fleet.replicas.length
    }
  })()
  const begin = performance.now()
  const { requests, acknowledged, failed, milliseconds } = await load({
    address: fleet.balancer.address,
    requests: Number(values.requests),
    clients: Number(values.clients),
    prefix: 'drain',
    onAnswer: (answered) =>
      answered % 500 === 0 && console.log(`${answered} requests answered, ${restarts} restarts`),
  })
  const seconds = (performance.now() - begin) / 1000
  isOver = true
  await rolling
  const lost = (
    await Promise.all(fleet.replicas.map(({ address }) => missing(address, acknowledged)))
  ).flat()
  const sorted = milliseconds.sort((a, b) => a - b)
  const at = (share: number): string =>
    Math.round(sorted[Math.floor(sorted.length * share)] ?? 0).toString()
  const { refused, cut } = fleet.balancer.counts
  replaceBetween('drain', [
    `Bundle tiny-bundle, milvus-lite, ${values.clients} clients, Node ${process.versions.node} on ${process.platform}, ${cpus().length} cores, ${new Date().toISOString().slice(0, 10)}.`,
    '',
    '| requests | failed | items acknowledged | of those missing in any service | restarts | p50 / p99, ms | sent to another service: nobody listened / connection cut | time |',
    '|---:|---:|---:|---:|---:|---:|---:|---:|',
    `| ${requests} | ${failed.length} | ${acknowledged.length} | ${new Set(lost).size} | ${restarts} | ${at(0.5)} / ${at(0.99)} | ${refused} / ${cut} | ${Math.round(seconds)} s |`,
  ])
  console.log({
    requests,
    failed: failed.slice(0, 10),
    lost: lost.slice(0, 10),
    restarts,
    refused,
    cut,
    seconds,
  })
  if (failed.length > 0 || lost.length > 0) process.exitCode = 1
} finally {
  await fleet.end()
}
