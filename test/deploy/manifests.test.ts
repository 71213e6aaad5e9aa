/**
 * Checks every value set of deploy/helm/tandem/ci: Kubernetes' schemas, good practice, and the
 * service's settings.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { parse } from 'yaml'
import { packageFolder, readConfig, settings } from '../../src/config.js'
import { exposureRemark } from '../../src/http/exposure.js'
import {
  chart,
  environmentOf,
  fileOf,
  find,
  helm,
  KUBERNETES,
  podsOf,
  render,
  run,
  template,
  valueSets,
} from './chart.js'

vi.setConfig({ testTimeout: 60_000 })

const kubeconform = find('kubeconform')
const kubeScore = find('kube-score')
const known = new Set<string>(Object.keys(settings))
/** Variables for libraries of the service. */
const OTHERS = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'NODE_EXTRA_CA_CERTS']
const schemas = join(
  packageFolder,
  'test',
  'deploy',
  'schemas',
  '{{.ResourceKind}}{{.KindSuffix}}.json',
)

/** Checks of kube-score that do not apply. */
const UNFIT = [
  // Tags are versions, which do not change. A pod must start while the registry is away.
  'container-image-pull-policy',
  // It does not see that a ScaledObject scales the Deployment.
  'deployment-replicas',
]

describe.skipIf(helm === null)('the value sets of the chart (needs helm: none was found)', () => {
  it('are six or more, each with a description', () => {
    expect(valueSets.length).toBeGreaterThanOrEqual(6)
    for (const valueSet of valueSets)
      expect(readFileSync(fileOf(valueSet), 'utf8')).toMatch(/^# [A-Z].*\.\n/)
  })

  it.each(valueSets)('%s passes helm lint --strict', (valueSet) => {
    const { status, output } = run(helm, [
      'lint',
      '--strict',
      '--kube-version',
      KUBERNETES,
      '-f',
      fileOf(valueSet),
      chart,
    ])
    expect(output).toContain('0 chart(s) failed')
    expect(status).toBe(0)
  })

  it.skipIf(kubeconform === null).each(valueSets)(
    '%s is what Kubernetes takes (needs kubeconform)',
    (valueSet) => {
      const manifests = template('-f', fileOf(valueSet))
      const { output } = run(
        kubeconform,
        ['-strict', '-summary', '-output', 'json', '-schema-location', schemas, '-'],
        manifests,
      )
      const { resources, summary } = JSON.parse(output) as {
        resources: unknown
        summary: Record<string, number>
      }
      expect(resources).toEqual([])
      expect(summary).toMatchObject({ invalid: 0, errors: 0, skipped: 0 })
      expect(summary['valid']).toBe(render('-f', fileOf(valueSet)).length)
    },
  )

  it.skipIf(kubeScore === null).each(valueSets)(
    '%s leaves kube-score nothing to say',
    (valueSet) => {
      const ignored = UNFIT.flatMap((check) => ['--ignore-test', check])
      // No CPU limit: a throttled search would wait while cores idle.
      const { output, status } = run(
        kubeScore,
        [
          'score',
          '--ignore-container-cpu-limit',
          '--kubernetes-version',
          'v1.37',
          ...ignored,
          '--output-format',
          'ci',
          '-',
        ],
        template('-f', fileOf(valueSet)),
      )
      expect(output.split('\n').filter((line) => /^\[(CRITICAL|WARNING)\]/.test(line))).toEqual([])
      expect(output).toMatch(/^\[OK\]/m)
      expect(status).toBe(0)
    },
  )

  it.each(valueSets)(
    '%s starts a service whose settings it takes, with what it needs mounted',
    (valueSet) => {
      const pods = Object.entries(podsOf(render('-f', fileOf(valueSet))))
      expect(pods.length).toBeGreaterThan(0)
      for (const [name, pod] of pods) {
        const environment = environmentOf(pod)
        for (const variable of Object.keys(environment))
          expect([...known, ...OTHERS]).toContain(variable)
        const config = readConfig(environment)
        expect(config, name).toMatchObject({ host: '0.0.0.0', port: 3000 })
        expect(() => exposureRemark(config), name).not.toThrow()
        const mounted = pod.containers[0].volumeMounts.map(({ mountPath }) => `${mountPath}/`)
        const paths = Object.values(environment).filter((value) => value.startsWith('/'))
        for (const path of paths)
          expect(
            mounted.some((folder) => `${path}/`.startsWith(folder)),
            `${name} ${path}`,
          ).toBe(true)
      }
    },
  )

  it('uses the version of Kubernetes of its schemas', () => {
    const script = readFileSync(join(packageFolder, 'scripts', 'kubernetes-schemas.mjs'), 'utf8')
    expect(script).toContain(`'v${KUBERNETES}'`)
  })

  it('uses the Milvus version of the compose file', () => {
    const { image } = parse(
      readFileSync(join(chart, 'charts', 'milvus-standalone', 'values.yaml'), 'utf8'),
    ) as { image: string }
    const compose = readFileSync(join(packageFolder, 'docker', 'compose.yaml'), 'utf8')
    const milvus = /image: (\S*milvusdb\/milvus:\S+)/.exec(compose)?.[1]
    expect(image).toBe(milvus)
  })
})
