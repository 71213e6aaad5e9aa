/**
 * `npm run full-disk [-- --rounds 20]`, as root on Linux: its outcome replaces the one in
 * docs/reliability.md.
 */
import { parseArgs } from 'node:util'
import { replaceBetween } from '../../scripts/reliability-page.js'
import { breakableDisk, smallDisk, type Disk } from '../support/small-disk.js'
import { tryDisk, type Outcome } from './trial.js'

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '20' } } })
const rounds = Number(values.rounds)
const rows: [string, Outcome][] = []

async function run<Found extends Disk>(
  name: string,
  disk: Found | null,
  trial: (disk: Found) => Promise<Outcome>,
): Promise<void> {
  if (disk === null)
    throw new Error('This process may not mount disks: run it as root on Linux, with e2fsprogs.')
  process.stderr.write(`${name}\n`)
  try {
    const outcome = await trial(disk)
    for (const sentence of outcome.contradictions) process.stderr.write(`${sentence}\n`)
    rows.push([name, outcome])
  } finally {
    await disk.end()
  }
}

const full = (disk: Disk): Promise<Outcome> =>
  tryDisk(disk, { spoil: () => disk.fill(), mend: () => disk.makeRoom(), restart: false, rounds })

await run('full tmpfs', await smallDisk(24), full)
await run('full ext4', await breakableDisk(32), full)
await run('ext4 turned read-only', await breakableDisk(32), (disk) =>
  tryDisk(disk, { spoil: () => disk.break(), mend: () => disk.repair(), restart: true, rounds }),
)

replaceBetween('full-disk', [
  `Node ${process.versions.node} on ${process.platform}, ${new Date().toISOString().slice(0, 10)}.`,
  '',
  '| disk | writes, by status | searches meanwhile | first write taken after | contradictions |',
  '|---|---|---:|---:|---:|',
  ...rows.map(([name, { writes, searches, recoveredMs, contradictions }]) => {
    const answered = [...writes]
      .sort(([a], [b]) => a - b)
      .map(([status, count]) => `${count} × ${status}`)
      .join(', ')
    const recovered = recoveredMs === null ? 'mounted again and restarted' : `${recoveredMs} ms`
    return `| ${name} | ${answered} | ${searches} | ${recovered} | ${contradictions.length} |`
  }),
])
process.exitCode = rows.some(([, { contradictions }]) => contradictions.length > 0) ? 1 : 0
