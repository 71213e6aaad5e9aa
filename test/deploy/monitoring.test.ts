/** Compares Prometheus and Grafana of docker/compose.yaml with the metrics of the service. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { packageFolder } from '../../src/config.js'
import { startTestService } from '../support/test-service.js'

interface Compose {
  services: Record<
    string,
    {
      image: string
      profiles?: string[]
      ports?: string[]
      volumes?: string[]
      environment?: Record<string, string>
    }
  >
  volumes: Record<string, null>
}

const folder = join(packageFolder, 'docker')
const read = (...path: string[]): string => readFileSync(join(folder, ...path), 'utf8')
const { services, volumes } = parse(read('compose.yaml')) as Compose

describe('the compose file', () => {
  it('pins every image to an exact version and publishes ports only on the loopback address', () => {
    for (const { image, ports = [] } of Object.values(services)) {
      expect(image).toMatch(/:(v?\d+\.\d+\.\d+|RELEASE\.\d{4}-\d\d-\d\dT[\d-]+Z)$/)
      for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/)
    }
  })

  it('starts only the service without a profile', () => {
    expect(
      Object.entries(services).flatMap(([name, { profiles }]) =>
        profiles === undefined ? [name] : [],
      ),
    ).toEqual(['tandem'])
  })

  it('mounts declared volumes and existing files', () => {
    const sources = Object.values(services).flatMap(({ volumes: mounted = [] }) =>
      mounted.map((mount) => mount.split(':')[0] ?? ''),
    )
    const files = sources.filter((source) => source.startsWith('.'))
    expect(files.length).toBeGreaterThan(2)
    for (const file of files)
      expect(() => readdirSync(join(folder, file.replace(/[^/]+$/, '')))).not.toThrow()
    expect(new Set(sources.filter((source) => !source.startsWith('.')))).toEqual(
      new Set(Object.keys(volumes)),
    )
  })

  it('gives Prometheus the host name of the service', () => {
    const { scrape_configs: jobs } = parse(read('prometheus.yaml')) as {
      scrape_configs: { static_configs: { targets: string[] }[] }[]
    }
    const targets = jobs.flatMap(({ static_configs: configs }) =>
      configs.flatMap((config) => config.targets),
    )
    expect(targets).toEqual(['tandem:3000'])
    expect(services.tandem?.environment?.ALLOWED_HOSTS?.split(',')).toContain('tandem')
  })
})

describe('the dashboard', () => {
  const dashboard = JSON.parse(read('grafana', 'dashboards', 'tandem.json')) as {
    panels: {
      id: number
      title: string
      datasource: { uid: string }
      targets: { expr: string }[]
      gridPos: { x: number; w: number }
    }[]
    templating: { list: { query: string }[] }
  }
  const expressions = dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr))
  let tandem: Awaited<ReturnType<typeof startTestService>>
  let metrics: string

  beforeAll(async () => {
    tandem = await startTestService({ rateLimitPerSecond: 1, limits: { rateLimitBurst: 1 } })
    // The second one is refused.
    for (const url of ['/search?q=a', '/search?q=a']) await tandem.app.inject(url)
    metrics = (await tandem.app.inject({ url: '/metrics', remoteAddress: '127.0.0.9' })).body
  })

  afterAll(async () => {
    await tandem.close()
  })

  it('queries existing metrics with existing labels', () => {
    const names = new Set(
      [...metrics.matchAll(/^# TYPE (\S+) (\w+)$/gm)].flatMap(([, name = '', type]) =>
        type === 'histogram' ? [`${name}_bucket`, `${name}_count`, `${name}_sum`] : [name],
      ),
    )
    const { groups } = parse(read('..', 'deploy', 'helm', 'tandem', 'alerts.yaml')) as {
      groups: { rules: { expr: string }[] }[]
    }
    const alerts = groups.flatMap(({ rules }) => rules.map(({ expr }) => expr))
    // Only with Milvus, and only after a backup or enough searches.
    for (const name of ['engine_available', 'last_backup_timestamp_seconds', 'ann_recall'])
      names.add(`tandem_${name}`)
    const asked = [
      ...expressions,
      ...alerts,
      ...dashboard.templating.list.map(({ query }) => query),
    ].flatMap((text) => text.match(/\b(?:tandem|process)_\w+/g) ?? [])
    expect(new Set(asked).size).toBeGreaterThan(8)
    expect([...new Set(asked)].filter((name) => !names.has(name))).toEqual([])
    // Prometheus adds `job` and `instance`; every histogram has `le`.
    const labels = expressions.flatMap((text) =>
      [...text.matchAll(/by \(([\w, ]+)\)/g)].flatMap(([, list = '']) => list.split(', ')),
    )
    const known = new Set([...metrics.matchAll(/[{,](\w+)="/g)].map(([, label = '']) => label))
    expect(new Set(labels.filter((label) => !known.has(label) && label !== 'worker'))).toEqual(
      new Set(),
    )
    expect(metrics).toContain('tandem_worker_restarts_total')
  })

  it('uses the provisioned data source, with panels that fit the page', () => {
    const { datasources } = parse(
      read('grafana', 'provisioning', 'datasources', 'prometheus.yaml'),
    ) as { datasources: { uid: string }[] }
    for (const { datasource, gridPos } of dashboard.panels) {
      expect(datasource.uid).toBe(datasources[0]?.uid)
      expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24)
    }
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length)
  })
})
