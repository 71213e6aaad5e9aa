/**
 * The chart and its tools: from an environment variable (HELM), from test/.tools/, or from PATH.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import { packageFolder } from '../../src/config.js'

export const chart = join(packageFolder, 'deploy', 'helm', 'tandem')

/**
 * The version of test/deploy/schemas/. Without it helm renders for an older version.
 */
export const KUBERNETES = '1.37.2'

/** Files of values, one for each deployment variant. */
export const valueSets = readdirSync(join(chart, 'ci')).map((file) => basename(file, '.yaml'))
export const fileOf = (valueSet: string): string => join(chart, 'ci', `${valueSet}.yaml`)

export interface Probe {
  httpGet: { path: string; port: string; scheme?: string }
}
export interface Container {
  image: string
  command?: string[]
  env: {
    name: string
    value?: string
    valueFrom?: { secretKeyRef: { name: string; key: string } }
  }[]
  securityContext: Record<string, unknown>
  startupProbe: Probe
  readinessProbe: Probe
  livenessProbe: Probe
  lifecycle: { preStop: { exec: { command: string[] } } }
  resources: { limits: Record<string, unknown> }
  volumeMounts: { name: string; mountPath: string }[]
}
export interface Pod {
  initContainers?: Omit<Container, 'env'>[]
  containers: [Container]
  volumes: Record<string, unknown>[]
  terminationGracePeriodSeconds: number
  tolerations?: unknown[]
  runtimeClassName?: string
  nodeSelector?: Record<string, string>
}
export interface Resource {
  apiVersion: string
  kind: string
  metadata: { name: string; labels: Record<string, string>; annotations?: Record<string, string> }
  spec: Record<string, unknown>
  stringData?: Record<string, string>
}

/** @returns the path of the tool, or null */
export function find(tool: string): string | null {
  const built = join(packageFolder, 'test', '.tools', tool)
  const named =
    process.env[tool.toUpperCase().replaceAll('-', '_')] ?? (existsSync(built) ? built : tool)
  return spawnSync(named, ['--help']).error === undefined ? named : null
}

export const helm = find('helm')

export function run(
  command: string | null,
  args: string[],
  input = '',
): { status: number | null; output: string; stdout: string } {
  const { status, stdout, stderr } = spawnSync(command ?? '', args, {
    encoding: 'utf8',
    input,
    maxBuffer: 64 << 20,
  })
  return { status, output: stdout + stderr, stdout }
}

/** @param args - options of helm, such as `--set replicas=2` */
export function template(...args: string[]): string {
  const { status, stdout, output } = run(helm, [
    'template',
    'photos',
    chart,
    '--kube-version',
    KUBERNETES,
    ...args,
  ])
  if (status !== 0) throw new Error(output)
  return stdout
}

export function render(...args: string[]): Resource[] {
  return parseAllDocuments(template(...args))
    .map((document) => document.toJS() as Resource | null)
    .filter((resource) => resource !== null)
}

/** @param sets - values as `name=value` */
export const renderSet = (...sets: string[]): Resource[] =>
  render(...sets.flatMap((set) => ['--set', set]))

/** The only resource of a kind, or the one with a name. */
export function only(resources: Resource[], kind: string, name?: string): Resource {
  const found = resources.filter(
    (resource) =>
      resource.kind === kind && (name ?? resource.metadata.name) === resource.metadata.name,
  )
  if (found.length !== 1) throw new Error(`${found.length} of kind ${kind} ${name ?? ''}`)
  return found[0] as Resource
}

/** The pod templates of the service by the name of the workload. */
export function podsOf(resources: Resource[]): Record<string, Pod> {
  const ours = resources.filter(
    ({ kind, metadata }) =>
      ['StatefulSet', 'Deployment'].includes(kind) &&
      metadata.labels['app.kubernetes.io/name'] === 'tandem',
  )
  return Object.fromEntries(
    ours.map(({ metadata, spec }) => [
      metadata.name,
      (spec as { template: { spec: Pod } }).template.spec,
    ]),
  )
}

/** The settings of a pod, with a placeholder that is valid for every secret. */
export function environmentOf({ containers: [{ env }] }: Pod): Record<string, string> {
  return Object.fromEntries(
    env.map(({ name, value }) => [name, value ?? 'a-secret-of-the-cluster']),
  )
}
