/**
 * `npm run corrupt [-- --rounds 500 --seed 1]`. Writes its result into docs/reliability.md.
 */
import { parseArgs } from 'node:util'
import { replaceBetween } from '../../scripts/reliability-page.js'
import { runCampaign, type Outcome } from './campaign.js'
import { KINDS, PARTS } from './corruptions.js'

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '500' }, seed: { type: 'string', default: '1' } },
})
const seed = Number(values.seed)
let number = 0
const rounds = await runCampaign({
  rounds: Number(values.rounds),
  seed,
  onRound: ({ what, outcome, contradiction }) => {
    number += 1
    process.stderr.write(`${number} ${what}: ${contradiction ?? outcome}\n`)
  },
})

const outcomes: readonly Outcome[] = [
  'right answers',
  'refused with a sentence',
  'named by tandem check',
]
const count = (part: string, kind: string, outcome: Outcome | null): number =>
  rounds.filter((round) => round.part === part && round.kind === kind && round.outcome === outcome)
    .length
replaceBetween('corruption', [
  `Seed ${seed}, ${rounds.length} damaged folders, Node ${process.versions.node} on ${process.platform}, ${new Date().toISOString().slice(0, 10)}.`,
  '',
  `| damaged | by | ${outcomes.join(' | ')} | contradictions |`,
  '|---|---|---:|---:|---:|---:|',
  ...PARTS.flatMap((part) =>
    KINDS.map((kind) => {
      const cells = [...outcomes, null].map((outcome) => count(part, kind, outcome))
      return `| \`${part}/\` | ${kind} | ${cells.join(' | ')} |`
    }),
  ),
])
process.exitCode = rounds.some(({ contradiction }) => contradiction !== null) ? 1 : 0
