/**
 * Installs, upgrades and removes every value set in a real Kubernetes API server. Without
 * controllers the test creates the pods, in a namespace that admits only the profile `restricted`.
 */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { startApiServer, type ApiServer } from './api-server.js'
import { chart, fileOf, find, helm, KUBERNETES, run, valueSets, type Resource } from './chart.js'

vi.setConfig({ testTimeout: 180_000 })

const etcd = find('etcd')
const kubeApiserver = find('kube-apiserver')
const missing = Object.entries({ helm, etcd, 'kube-apiserver': kubeApiserver }).flatMap(
  ([name, path]) => (path === null ? [name] : []),
)
const why =
  missing.length === 0
    ? ''
    : ` (needs ${missing.join(', ')}, which scripts/kubernetes-tools.sh --api-server builds)`

/** Kinds of operators; only group and name matter here. */
const CUSTOM = [
  {
    group: 'monitoring.coreos.com',
    version: 'v1',
    kind: 'ServiceMonitor',
    plural: 'servicemonitors',
  },
  { group: 'keda.sh', version: 'v1alpha1', kind: 'ScaledObject', plural: 'scaledobjects' },
]
const namespace = 'photos'

let server: ApiServer

const helmHere = (...args: string[]) =>
  run(helm, [...args, '--kubeconfig', server.kubeconfig, '--namespace', namespace])

/** The warnings in the output of helm. */
const warned = (output: string): string[] =>
  output.split('\n').filter((line) => /^W\d{4} |warning/i.test(line))

describe.skipIf(missing.length > 0)(`the chart in a Kubernetes API server${why}`, () => {
  beforeAll(async () => {
    server = await startApiServer({ etcd: etcd as string, kubeApiserver: kubeApiserver as string })
    for (const { group, version, kind, plural } of CUSTOM) {
      const schema = {
        openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
      }
      const versions = [{ name: version, served: true, storage: true, schema }]
      const names = { kind, plural, singular: kind.toLowerCase() }
      const { status } = await server.create(
        { prefix: '/apis/apiextensions.k8s.io/v1', plural: 'customresourcedefinitions' },
        {
          metadata: { name: `${plural}.${group}` },
          spec: { group, names, scope: 'Namespaced', versions },
        },
      )
      expect(status).toBe(201)
    }
    const labels = {
      'pod-security.kubernetes.io/enforce': 'restricted',
      'pod-security.kubernetes.io/warn': 'restricted',
    }
    await server.create(
      { prefix: '/api/v1', plural: 'namespaces' },
      { metadata: { name: namespace, labels } },
    )
    await server.create(
      { prefix: '/apis/node.k8s.io/v1', plural: 'runtimeclasses' },
      { metadata: { name: 'nvidia' }, handler: 'nvidia' },
    )
  })
  afterAll(() => server.stop())

  it('has the version of the schemas', () => {
    expect(server.version).toBe(`v${KUBERNETES}`)
  })

  it.each(valueSets)('installs, upgrades and removes %s and its pods', async (valueSet) => {
    const install = helmHere('install', valueSet, chart, '-f', fileOf(valueSet))
    expect(install.output).toContain('STATUS: deployed')
    expect(warned(install.output)).toEqual([])

    const manifests = helmHere('get', 'manifest', valueSet).stdout
    const resources = parseAllDocuments(manifests).flatMap(
      (document) => (document.toJS() as Resource | null) ?? [],
    )
    const hooks = parseAllDocuments(helmHere('get', 'hooks', valueSet).stdout).flatMap(
      (document) => (document.toJS() as Resource | null) ?? [],
    )
    const templates = resources.flatMap(({ metadata, spec }) => {
      const { template } = (spec ?? {}) as { template?: { metadata: object; spec: object } }
      return template === undefined
        ? []
        : [{ ...template, metadata: { ...template.metadata, name: `${metadata.name}-0` } }]
    })
    const pods = [...templates, ...hooks.filter(({ kind }) => kind === 'Pod')].map((pod) =>
      withVolumes(pod),
    )
    expect(pods.length).toBeGreaterThan(1)
    for (const pod of pods) {
      const { status, warnings, body } = await server.create(
        { prefix: '/api/v1', plural: 'pods', namespace },
        pod,
      )
      expect({ status, warnings, message: body['message'] }).toEqual({
        status: 201,
        warnings: [],
        message: undefined,
      })
    }

    const upgrade = helmHere(
      'upgrade',
      valueSet,
      chart,
      '-f',
      fileOf(valueSet),
      '--set',
      'image.tag=next,settings.LOG_LEVEL=debug',
    )
    expect(upgrade.output).toContain('STATUS: deployed')
    expect(warned(upgrade.output)).toEqual([])
    expect(helmHere('get', 'manifest', valueSet).stdout).toContain('LOG_LEVEL')

    const { status, output } = helmHere('uninstall', valueSet)
    expect(output).toContain('uninstalled')
    expect(status).toBe(0)
  })

  it('warns of a pod that is not restricted', async () => {
    const pod = {
      metadata: { name: 'root' },
      spec: { containers: [{ name: 'root', image: 'root' }] },
    }
    expect(
      (await server.create({ prefix: '/api/v1', plural: 'pods', namespace }, pod)).status,
    ).toBe(403)
    const { output } = helmHere(
      'install',
      'root',
      chart,
      '--set',
      'podSecurityContext.runAsNonRoot=false',
    )
    expect(warned(output).join()).toMatch(/would violate PodSecurity/)
    helmHere('uninstall', 'root')
  })
})

/** The controller of a StatefulSet adds the claim to the volumes of a pod. */
function withVolumes(pod: object): object {
  const { spec } = pod as {
    spec: { volumes?: { name: string }[]; containers: { volumeMounts?: { name: string }[] }[] }
  }
  const volumes = spec.volumes ?? []
  const named = new Set(volumes.map(({ name }) => name))
  const claimed = spec.containers
    .flatMap(({ volumeMounts = [] }) => volumeMounts)
    .filter(({ name }) => !named.has(name))
  const claims = claimed.map(({ name }) => ({
    name,
    persistentVolumeClaim: { claimName: `${name}-claim` },
  }))
  return { ...pod, spec: { ...spec, volumes: [...volumes, ...claims] } }
}
