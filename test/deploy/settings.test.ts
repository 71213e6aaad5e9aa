/** Compares the settings in Dockerfiles, compose file and chart with those of the service. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { packageFolder, readConfig, settings } from '../../src/config.js'
import { exposureRemark } from '../../src/http/exposure.js'

const read = (...path: string[]): string => readFileSync(join(packageFolder, ...path), 'utf8')
const known = new Set<string>(Object.keys(settings))
describe.each([['Dockerfile'], ['docker', 'Dockerfile.gpu']])('%s %s', (...path) => {
  const dockerfile = read(...path.filter((part) => part !== undefined))

  it('sets only settings of the service and variables of the runtime', () => {
    const block = /^ENV ([\s\S]*?[^\\])$/m.exec(dockerfile)?.[1] ?? ''
    const variables = Object.fromEntries(
      [...block.matchAll(/([A-Z][A-Z0-9_]*)=(\S+)/g)].map(([, name, value]) => [
        name as string,
        value as string,
      ]),
    )
    const ours = Object.keys(variables).filter(
      (name) => !['PATH', 'NODE_ENV', 'MALLOC_ARENA_MAX', 'ORT_DISABLE_TELEMETRY'].includes(name),
    )
    expect(ours.length).toBeGreaterThan(0)
    for (const name of ours) expect(known).toContain(name)
    const config = readConfig(variables)
    expect(config).toMatchObject({ host: '0.0.0.0', port: 3000, dataFolder: '/data' })
    // The image alone must not start: who runs it chooses between keys and TRUSTED_NETWORK.
    expect(() => exposureRemark(config)).toThrow(/API_KEYS/)
  })

  it('copies only files that .dockerignore allows', () => {
    const allowed = new Set(
      read('.dockerignore')
        .split('\n')
        .filter((line) => line.startsWith('!'))
        .map((line) => line.slice(1)),
    )
    const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, sources]) =>
      (sources as string).split(' '),
    )
    expect(copied.length).toBeGreaterThan(5)
    for (const source of copied) expect(allowed).toContain(source)
  })
})

describe('the compose file', () => {
  const { services } = parse(read('docker', 'compose.yaml')) as {
    services: { tandem: { ports: string[]; environment: Record<string, string> } }
  }

  it('publishes the port only on the loopback address, as TRUSTED_NETWORK requires', () => {
    const { ports, environment } = services.tandem
    for (const name of Object.keys(environment)) expect(known).toContain(name)
    // As compose replaces `${NAME:-fallback}` without NAME in its environment.
    const given = Object.entries(environment).map(
      ([name, value]) => [name, value.replace(/\$\{\w+:-(.*?)\}/g, '$1')] as const,
    )
    const config = readConfig({ ...Object.fromEntries(given), HOST: '0.0.0.0' })
    expect(exposureRemark(config)).toMatch(/TRUSTED_NETWORK/)
    expect(config).toMatchObject({ vectorIndex: 'hnsw', apiKeys: [] })
    for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/)
  })
})

describe('the chart', () => {
  const values = parse(read('deploy', 'helm', 'tandem', 'values.yaml')) as {
    settings: Record<string, string>
  }

  it('sets only settings of the service, with valid values', () => {
    for (const name of Object.keys(values.settings)) expect(known).toContain(name)
    expect(() => readConfig(values.settings)).not.toThrow()
  })

  it('takes the settings without a value of their own, and those alone', () => {
    const { definitions } = JSON.parse(read('deploy', 'helm', 'tandem', 'values.schema.json')) as {
      definitions: { settings: { propertyNames: { anyOf: { enum?: string[] }[] } } }
    }
    const names = definitions.settings.propertyNames.anyOf.flatMap((choice) => choice.enum ?? [])
    const templates = read('deploy', 'helm', 'tandem', 'templates', '_environment.tpl')
    // TANDEM_MODEL is set from bundle.name only where the settings have none.
    const own = new Set([...templates.matchAll(/^- name: ([A-Z0-9_]+)$/gm)].map(([, name]) => name))
    own.delete('TANDEM_MODEL')
    expect(names).toEqual([...known].filter((name) => !own.has(name)))
  })

  it('has the version of the service', () => {
    const { version } = JSON.parse(read('package.json')) as { version: string }
    expect(parse(read('deploy', 'helm', 'tandem', 'Chart.yaml'))).toMatchObject({
      appVersion: version,
    })
  })
})
