/**
 * `npm run full-disk [-- --rounds 20]`, as root on Linux. Writes its result into
 * docs/reliability.md.
 */
import { parseArgs } from 'node:util'
import { replaceBetween } from '../../scripts/reliability-page.js'
import { breakableDisk, smallDisk, type Disk } from '../support/small-disk.js'
import { testDiskFailure, type Outcome } from './disk-failure.js'

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '20' } } })
const rounds = Number(values.rounds)
const rows: [string, Outcome][] = []

async function run<Mounted extends Disk>(
  name: string,
  disk: Mounted | null,
  test: (disk: Mounted) => Promise<Outcome>,
): Promise<void> {
  if (disk === null)
    throw new Error('This process may not mount disks: run it as root on Linux, with e2fsprogs.')
  process.stderr.write(`${name}\n`)
  try {
    const outcome = await test(disk)
    for (const sentence of outcome.contradictions) process.stderr.write(`${sentence}\n`)
    rows.push([name, outcome])
  } finally {
    await disk.end()
  }
}

const fillAndEmpty = (disk: Disk): Promise<Outcome> =>
  testDiskFailure(disk, {
    fail: () => disk.fill(),
    repair: () => disk.freeSpace(),
    restart: false,
    rounds,
  })

await run('full tmpfs', await smallDisk(24), fillAndEmpty)
await run('full ext4', await breakableDisk(32), fillAndEmpty)
await run('ext4 turned read-only', await breakableDisk(32), (disk) =>
  testDiskFailure(disk, {
    fail: () => disk.break(),
    repair: () => disk.repair(),
    restart: true,
    rounds,
  }),
)

replaceBetween('full-disk', [
  `Node ${process.versions.node} on ${process.platform}, ${new Date().toISOString().slice(0, 10)}.`,
  '',
  '| disk | writes, by status | searches meanwhile | first write taken after | contradictions |',
  '|---|---|---:|---:|---:|',
  ...rows.map(([name, { writes, searches, recoveredMs, contradictions }]) => {
    const statuses = [...writes]
      .sort(([a], [b]) => a - b)
      .map(([status, count]) => `${count} × ${status}`)
      .join(', ')
    const recovered = recoveredMs === null ? 'mounted again and restarted' : `${recoveredMs} ms`
    return `| ${name} | ${statuses} | ${searches} | ${recovered} | ${contradictions.length} |`
  }),
])
process.exitCode = rows.some(([, { contradictions }]) => contradictions.length > 0) ? 1 : 0
