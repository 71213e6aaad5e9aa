/** Each family of attacks for a second (`npm run attack` is the long run). */
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { packageFolder } from '../../src/config.js'
import { jpeg } from '../support/images.js'
import { runAttack, type Attack } from './attack.js'
import { attacks } from './attacks.js'
import { closeAgents } from './http.js'
import { Service } from './service.js'
import { fuzzSockets } from './sockets.js'
import { LONGEST_MS, stopWorkers } from './stopped-workers.js'

vi.setConfig({ testTimeout: 90_000 })

const SECONDS = 1
const model = join(packageFolder, 'test/fixtures/tiny-bundle')
const families = attacks.filter(
  ({ fault }, at) => attacks.findIndex((one) => one.fault === fault) === at,
)

// It reads /proc, and gives attackers addresses of loopback that only Linux has.
describe.runIf(process.platform === 'linux')('the attacked service', () => {
  let service: Service
  let image: Buffer
  beforeAll(async () => {
    image = await jpeg()
    service = await Service.start(model)
  })
  afterAll(async () => {
    closeAgents()
    await service.stop()
  })

  it.each(families)('answers good clients, and keeps nothing of: $name', async (attack) => {
    const options = { seconds: SECONDS, image, judgesTime: false }
    const { requests, faults } = await runAttack(service, attack, options)
    expect(faults).toEqual([])
    expect(requests).toBeGreaterThan(0)
  })

  it('keeps nothing of raw sockets that are cut, slow, half-closed and pipelined', async () => {
    let [isOver, answered] = [false, 0]
    const attack: Attack = {
      fault: 1,
      name: 'fuzzed sockets',
      async run(target) {
        const statuses = await fuzzSockets(target, { count: 1500, seed: 11, image })
        answered = [...statuses.values()].reduce((sum, count) => sum + count, 0)
        isOver = true
      },
    }
    const options = { seconds: 60, image, judgesTime: false, hasEnded: () => isOver }
    expect((await runAttack(service, attack, options)).faults).toEqual([])
    expect(answered).toBeGreaterThan(20)
  })

  it('answers right or 503 while a worker is stopped, and ends with all of them stopped', async () => {
    const options = { rounds: 1, seed: 5, image, allAtTheEnd: true }
    const { stopped, answers, faults } = await stopWorkers(service, options)
    expect(faults).toEqual([])
    expect(stopped).toHaveLength(1)
    for (const { milliseconds } of stopped) expect(milliseconds).toBeLessThan(LONGEST_MS)
    expect(answers).toBeGreaterThan(0)
  })
})
