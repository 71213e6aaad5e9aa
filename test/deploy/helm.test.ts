/** Runs the real helm over the chart; skipped where there is no helm (set HELM to its path, or have it on PATH). */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { packageFolder } from '../../src/config.js'

const chart = join(packageFolder, 'deploy', 'helm', 'tandem')
const helm = process.env['HELM'] ?? 'helm'
const found = spawnSync(helm, ['version', '--short']).status === 0

interface Resource {
  kind: string
  metadata: { name: string; annotations?: Record<string, string> }
  spec: Record<string, unknown>
  stringData?: Record<string, string>
}

function run(...args: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(helm, args, { encoding: 'utf8' })
  return { status, output: stdout + stderr }
}

function render(...sets: string[]): Resource[] {
  const { status, stdout, stderr } = spawnSync(
    helm,
    ['template', 'photos', chart, ...sets.flatMap((set) => ['--set', set])],
    { encoding: 'utf8' },
  )
  if (status !== 0) throw new Error(stderr)
  return parseAllDocuments(stdout)
    .map((document) => document.toJS() as Resource | null)
    .filter((resource) => resource !== null)
}

interface Container {
  env: { name: string; value?: string; valueFrom?: { secretKeyRef: { name: string; key: string } } }[]
  securityContext: Record<string, unknown>
  startupProbe: { httpGet: { path: string } }
  readinessProbe: { httpGet: { path: string } }
  livenessProbe: { httpGet: { path: string } }
}

function pod(resources: Resource[]): { containers: Container[]; terminationGracePeriodSeconds: number } {
  const set = resources.find(({ kind }) => kind === 'StatefulSet')
  return (set?.spec as { template: { spec: ReturnType<typeof pod> } }).template.spec
}

describe.skipIf(!found)('the Helm chart (needs helm: none was found)', () => {
  it('passes helm lint --strict', () => {
    const { status, output } = run('lint', '--strict', chart)
    expect(output).toContain('0 chart(s) failed')
    expect(status).toBe(0)
  })

  it('renders with its defaults, without a Secret, an Ingress or a budget', () => {
    const kinds = render()
      .map(({ kind }) => kind)
      .sort()
    expect(kinds).toEqual(['Pod', 'Service', 'Service', 'ServiceAccount', 'StatefulSet'])
  })

  it('probes warm-up by ready, and life by live', () => {
    const [container] = pod(render()).containers
    expect(container?.startupProbe.httpGet.path).toBe('/health/ready')
    expect(container?.readinessProbe.httpGet.path).toBe('/health/ready')
    expect(container?.livenessProbe.httpGet.path).toBe('/health/live')
  })

  it('runs without root, on a read-only root file system', () => {
    const [container] = pod(render()).containers
    expect(container?.securityContext).toMatchObject({ readOnlyRootFilesystem: true, allowPrivilegeEscalation: false })
  })

  it('gives a pod more time to end than its sleep and a request take', () => {
    const { terminationGracePeriodSeconds, containers } = pod(render())
    const timeoutMs = Number(containers[0]?.env.find(({ name }) => name === 'REQUEST_TIMEOUT_MS')?.value)
    expect(terminationGracePeriodSeconds).toBeGreaterThan(5 + timeoutMs / 1000)
  })

  it('keeps API keys in a Secret that the pod reads', () => {
    const resources = render('apiKeys.values={first-key,second-key}')
    const secret = resources.find(({ kind }) => kind === 'Secret')
    expect(secret?.stringData).toEqual({ API_KEYS: 'first-key,second-key' })
    const key = pod(resources).containers[0]?.env.find(({ name }) => name === 'API_KEYS')
    expect(key?.valueFrom?.secretKeyRef).toEqual({ name: secret?.metadata.name, key: 'API_KEYS' })
  })

  it('trusts its network where there are no keys, and only there', () => {
    const trusted = (...sets: string[]) =>
      pod(render(...sets)).containers[0]?.env.find(({ name }) => name === 'TRUSTED_NETWORK')?.value
    expect(trusted()).toBe('true')
    expect(trusted('apiKeys.values={first-key}')).toBeUndefined()
    expect(trusted('apiKeys.existingSecret=mine')).toBeUndefined()
  })

  it('takes an existing Secret instead', () => {
    const resources = render('apiKeys.existingSecret=mine', 'apiKeys.secretKey=keys')
    expect(resources.some(({ kind }) => kind === 'Secret')).toBe(false)
    const key = pod(resources).containers[0]?.env.find(({ name }) => name === 'API_KEYS')
    expect(key?.valueFrom?.secretKeyRef).toEqual({ name: 'mine', key: 'keys' })
  })

  it('renders Ingress and budget when they are asked for', () => {
    const kinds = render('ingress.enabled=true', 'podDisruptionBudget.enabled=true').map(({ kind }) => kind)
    expect(kinds).toEqual(expect.arrayContaining(['Ingress', 'PodDisruptionBudget']))
  })

  it.each([
    ['settings.PORT=80', /PORT/],
    ['settings.TRUSTED_NETWORK=true', /TRUSTED_NETWORK/],
    ['apiKeys.values={short}', /apiKeys\/values\/0/],
    ['persistence.accessModes={ReadWriteMany}', /accessModes/],
    ['replicas=2', /replicas/],
  ])('refuses %s', (set, message) => {
    const { status, output } = run('template', 'photos', chart, '--set', set)
    expect(status).not.toBe(0)
    expect(output).toMatch(message)
  })

  it('refuses keys of its own beside an existing Secret', () => {
    const { status, output } = run(
      'template',
      'photos',
      chart,
      '--set',
      'apiKeys.values={first-key}',
      '--set',
      'apiKeys.existingSecret=mine',
    )
    expect(status).not.toBe(0)
    expect(output).toContain('exclude each other')
  })
})
