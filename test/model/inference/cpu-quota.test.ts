import { availableParallelism } from 'node:os'
import { describe, expect, it } from 'vitest'
import { availableCores } from '../../../src/model/inference/cpu-quota.js'

const reader =
  (files: Record<string, string>) =>
  (path: string): string =>
    files[path] ?? ''
const half = `${50_000 * availableParallelism()} 100000\n`

describe('the cores given', () => {
  it('are those of the machine where there is no quota', () => {
    expect(availableCores(reader({}))).toBe(availableParallelism())
    expect(
      availableCores(
        reader({ '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': 'max 100000\n' }),
      ),
    ).toBe(availableParallelism())
    const unlimited = {
      '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n',
      '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
    }
    expect(availableCores(reader({ '/proc/self/cgroup': '4:cpu,cpuacct:/\n', ...unlimited }))).toBe(
      availableParallelism(),
    )
    expect(availableCores()).toBeGreaterThanOrEqual(1)
  })

  it('are what the quota leaves, in whole cores and one at least', () => {
    const withQuota = (line: string): number =>
      availableCores(reader({ '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': line }))
    expect(withQuota(half)).toBe(Math.max(1, Math.floor(availableParallelism() / 2)))
    expect(withQuota('199999 100000\n')).toBe(1)
    expect(withQuota('20000 100000\n')).toBe(1)
  })

  it('are limited by control groups version 1, also where a container does not see its own folder', () => {
    const files = {
      '/proc/self/cgroup': '9:name=systemd:/\n4:cpu,cpuacct:/docker/0a1b\n',
      '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '100000\n',
      '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
    }
    expect(availableCores(reader(files))).toBe(1)
  })

  it('are the least along the way to the root', () => {
    const files = {
      '/proc/self/cgroup': '0::/kube/pod/main:1\n',
      '/sys/fs/cgroup/kube/pod/main:1/cpu.max': 'max 100000\n',
      '/sys/fs/cgroup/kube/pod/cpu.max': '100000 100000\n',
    }
    expect(availableCores(reader(files))).toBe(1)
  })
})
