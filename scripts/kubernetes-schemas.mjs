// Writes test/deploy/schemas/: what Kubernetes and two operators take, as JSON Schemas that allow
// nothing else, for the kinds that the chart makes. Their sources come from the Go registry: node
// scripts/kubernetes-schemas.mjs
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'

const folder = fileURLToPath(new URL('../test/deploy/schemas/', import.meta.url))
const KUBERNETES = 'v1.37.2'
/** Name of a file of kubeconform, and the definition in Kubernetes' OpenAPI document. */
const KINDS = {
  'configmap-v1': 'io.k8s.api.core.v1.ConfigMap',
  'deployment-apps-v1': 'io.k8s.api.apps.v1.Deployment',
  'horizontalpodautoscaler-autoscaling-v2': 'io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler',
  'ingress-networking-v1': 'io.k8s.api.networking.v1.Ingress',
  'networkpolicy-networking-v1': 'io.k8s.api.networking.v1.NetworkPolicy',
  'pod-v1': 'io.k8s.api.core.v1.Pod',
  'poddisruptionbudget-policy-v1': 'io.k8s.api.policy.v1.PodDisruptionBudget',
  'secret-v1': 'io.k8s.api.core.v1.Secret',
  'service-v1': 'io.k8s.api.core.v1.Service',
  'serviceaccount-v1': 'io.k8s.api.core.v1.ServiceAccount',
  'statefulset-apps-v1': 'io.k8s.api.apps.v1.StatefulSet',
}
const CUSTOM = {
  'scaledobject-keda-v1alpha1': [
    'github.com/kedacore/keda/v2@v2.21.0',
    'config/crd/bases/keda.sh_scaledobjects.yaml',
  ],
  'servicemonitor-monitoring-v1': [
    'github.com/prometheus-operator/prometheus-operator@v0.85.0',
    'example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml',
  ],
}
const QUANTITY = 'io.k8s.apimachinery.pkg.api.resource.Quantity'
const OBJECT_META = 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta'

/** The text of a file of a Go module. */
function source(module, path) {
  const { Dir } = JSON.parse(
    execFileSync('go', ['mod', 'download', '-json', module], { cwd: '/', encoding: 'utf8' }),
  )
  return readFileSync(join(Dir, path), 'utf8')
}

/**
 * Without prose, with nothing allowed beside the named properties, and each scalar as YAML may
 * write it.
 */
function strict(schema) {
  if (schema.$ref !== undefined) return { $ref: schema.$ref }
  if (schema.format === 'int-or-string' || schema['x-kubernetes-int-or-string'] === true)
    return { type: ['string', 'integer'] }
  const { type, required, properties, items, additionalProperties } = schema
  const kept = {
    type,
    required,
    enum: schema.enum,
    pattern: schema.pattern,
    minimum: schema.minimum,
    maximum: schema.maximum,
  }
  if (items !== undefined) kept.items = strict(items)
  if (properties !== undefined) {
    kept.properties = Object.fromEntries(
      Object.entries(properties).map(([name, value]) => [name, strict(value)]),
    )
    kept.additionalProperties = schema['x-kubernetes-preserve-unknown-fields'] === true
  } else if (typeof additionalProperties === 'object') {
    kept.additionalProperties = strict(additionalProperties)
  }
  return kept
}

/** The definition and those that it refers to, in one document. */
function document(definitions, name) {
  const found = {}
  const add = (wanted) => {
    if (found[wanted] !== undefined) return
    found[wanted] =
      wanted === QUANTITY ? { type: ['string', 'number'] } : strict(definitions[wanted])
    for (const [, next] of JSON.stringify(found[wanted]).matchAll(/"#\/definitions\/([^"]+)"/g))
      add(next)
  }
  add(name)
  const [{ group, kind, version }] = definitions[name]['x-kubernetes-group-version-kind']
  return identified({ definitions: found, ...found[name] }, group, version, kind)
}

function identified({ properties, ...schema }, group, version, kind) {
  const apiVersion = { const: group === '' ? version : `${group}/${version}` }
  return {
    ...schema,
    required: ['apiVersion', 'kind', 'metadata'],
    properties: { ...properties, apiVersion, kind: { const: kind } },
  }
}

rmSync(folder, { recursive: true, force: true })
mkdirSync(folder, { recursive: true })
const write = (name, schema) => {
  const text = JSON.stringify({ $schema: 'http://json-schema.org/draft-07/schema#', ...schema })
  writeFileSync(join(folder, `${name}.json`), `${text}\n`)
}
const { definitions } = JSON.parse(
  source(`k8s.io/kubernetes@${KUBERNETES}`, 'api/openapi-spec/swagger.json'),
)
for (const [name, definition] of Object.entries(KINDS))
  write(name, document(definitions, definition))
for (const [name, [module, path]] of Object.entries(CUSTOM)) {
  const { group, names, versions } = parse(source(module, path)).spec
  const [{ name: version, schema }] = versions
  // A custom resource's metadata is that of every other object, which its definition leaves out.
  const own = strict(schema.openAPIV3Schema)
  own.properties.metadata = { $ref: `#/definitions/${OBJECT_META}` }
  const { definitions: metadata } = document(definitions, 'io.k8s.api.core.v1.ConfigMap')
  write(name, identified({ definitions: metadata, ...own }, group, version, names.kind))
}
