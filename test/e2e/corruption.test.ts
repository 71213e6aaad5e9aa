/** Starts on damaged data folders: a short run of `npm run corrupt`. */
import { expect, it } from 'vitest'
import { runCampaign } from '../corruption/campaign.js'

it(
  'a service on a damaged folder gives right answers, says what is damaged, or tandem check does',
  { timeout: 400_000 },
  async () => {
    const rounds = await runCampaign({ rounds: 10, seed: 4 })
    expect(rounds.filter(({ contradiction }) => contradiction !== null)).toEqual([])
    expect(rounds.length).toBe(10)
  },
)
