// Writes test/deploy/schemas/: strict JSON Schemas of the kinds that the chart creates, from the Go
// modules of Kubernetes and two operators. Usage: node scripts/kubernetes-schemas.mjs
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'

const folder = fileURLToPath(new URL('../test/deploy/schemas/', import.meta.url))
const KUBERNETES = 'v1.37.2'
/** kubeconform's file name of a kind, and its definition in Kubernetes' OpenAPI document. */
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
  'prometheusrule-monitoring-v1': [
    'github.com/prometheus-operator/prometheus-operator@v0.85.0',
    'example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml',
  ],
  'servicemonitor-monitoring-v1': [
    'github.com/prometheus-operator/prometheus-operator@v0.85.0',
    'example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml',
  ],
}
const QUANTITY = 'io.k8s.apimachinery.pkg.api.resource.Quantity'
const OBJECT_META = 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta'

/** Reads a file of a Go module. */
function source(module, path) {
  const { Dir } = JSON.parse(
    execFileSync('go', ['mod', 'download', '-json', module], { cwd: '/', encoding: 'utf8' }),
  )
  return readFileSync(join(Dir, path), 'utf8')
}

/** Removes descriptions and refuses unknown properties. YAML allows two types for some scalars. */
function strict(schema) {
  if (schema.$ref !== undefined) return { $ref: schema.$ref }
  if (schema.format === 'int-or-string' || schema['x-kubernetes-int-or-string'] === true)
    return { type: ['string', 'integer'] }
  const { type, required, properties, items, additionalProperties } = schema
  const result = {
    type,
    required,
    enum: schema.enum,
    pattern: schema.pattern,
    minimum: schema.minimum,
    maximum: schema.maximum,
  }
  if (items !== undefined) result.items = strict(items)
  if (properties !== undefined) {
    result.properties = Object.fromEntries(
      Object.entries(properties).map(([name, value]) => [name, strict(value)]),
    )
    result.additionalProperties = schema['x-kubernetes-preserve-unknown-fields'] === true
  } else if (typeof additionalProperties === 'object') {
    result.additionalProperties = strict(additionalProperties)
  }
  return result
}

/** A document with a definition and all that it refers to. */
function document(definitions, name) {
  const included = {}
  const add = (reference) => {
    if (included[reference] !== undefined) return
    included[reference] =
      reference === QUANTITY ? { type: ['string', 'number'] } : strict(definitions[reference])
    for (const [, next] of JSON.stringify(included[reference]).matchAll(
      /"#\/definitions\/([^"]+)"/g,
    ))
      add(next)
  }
  add(name)
  const [{ group, kind, version }] = definitions[name]['x-kubernetes-group-version-kind']
  return identified({ definitions: included, ...included[name] }, group, version, kind)
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
  // The definition of a custom resource has no schema for its metadata.
  const own = strict(schema.openAPIV3Schema)
  own.properties.metadata = { $ref: `#/definitions/${OBJECT_META}` }
  const { definitions: metadata } = document(definitions, 'io.k8s.api.core.v1.ConfigMap')
  write(name, identified({ definitions: metadata, ...own }, group, version, names.kind))
}
