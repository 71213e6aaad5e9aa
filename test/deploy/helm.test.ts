/**
 * The resources that the chart renders. Skipped without helm, which scripts/kubernetes-tools.sh
 * builds.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { parse } from 'yaml'
import { packageFolder } from '../../src/config.js'
import {
  chart,
  helm,
  KUBERNETES,
  only,
  podsOf,
  render,
  renderSet,
  run,
  fileOf,
  valueSets,
  type Pod,
  type Resource,
} from './chart.js'

vi.setConfig({ testTimeout: 60_000 })

const MILVUS = ['vectorIndex=milvus', 'milvus.address=engine:19530', 'images.store=s3://photos']
const ENCODE = ['encode.enabled=true']
const search = (resources: Resource[]): Pod => podsOf(resources)['photos-tandem'] as Pod
const encode = (resources: Resource[]): Pod => podsOf(resources)['photos-tandem-encode'] as Pod
const variable = ({ containers: [{ env }] }: Pod, wanted: string) =>
  env.find(({ name }) => name === wanted)
const valueOf = (pod: Pod, wanted: string): string | undefined => variable(pod, wanted)?.value
const egressOf = (resources: Resource[], name = 'photos-tandem') =>
  only(resources, 'NetworkPolicy', name).spec['egress'] as {
    to?: unknown[]
    ports: { port: number }[]
  }[]
const portsOf = (resources: Resource[]): number[] =>
  egressOf(resources).flatMap(({ ports }) => ports.map(({ port }) => port))

describe.skipIf(helm === null)('the Helm chart (needs helm: none was found)', () => {
  it('renders with its defaults, without a Secret, an Ingress or an autoscaler', () => {
    const kinds = render().map(({ kind }) => kind)
    expect(kinds.sort()).toEqual([
      'NetworkPolicy',
      'NetworkPolicy',
      'Pod',
      'PodDisruptionBudget',
      'Service',
      'Service',
      'ServiceAccount',
      'StatefulSet',
    ])
  })

  it.each(valueSets)('%s: probes, drain and rights of every pod', (valueSet) => {
    for (const [name, pod] of Object.entries(podsOf(render('-f', fileOf(valueSet))))) {
      const { readinessProbe, livenessProbe, startupProbe, securityContext, lifecycle } =
        pod.containers[0]
      expect([readinessProbe.httpGet.path, livenessProbe.httpGet.path]).toEqual([
        '/health/ready',
        '/health/live',
      ])
      expect(valueOf(pod, 'HEALTH_PORT')).toBe('3001')
      // The health port has no TLS, and http is the default.
      for (const { httpGet } of [startupProbe, readinessProbe, livenessProbe])
        expect([httpGet.port, httpGet.scheme]).toEqual(['health', undefined])
      const leansOnOthers =
        valueOf(pod, 'VECTOR_INDEX') === 'milvus' || valueOf(pod, 'TANDEM_ROLE') === 'search'
      expect(startupProbe.httpGet.path, name).toBe(leansOnOthers ? '/health/live' : '/health/ready')
      expect(securityContext).toMatchObject({
        readOnlyRootFilesystem: true,
        allowPrivilegeEscalation: false,
        capabilities: { drop: ['ALL'] },
      })
      const drainSeconds =
        Number(lifecycle.preStop.exec.command[1]) +
        Number(valueOf(pod, 'REQUEST_TIMEOUT_MS')) / 1000
      expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(drainSeconds)
    }
  })

  it('gives the embedded index a volume of one replica, and a service with Milvus none', () => {
    expect(only(render(), 'StatefulSet').spec).toMatchObject({ replicas: 1 })
    expect(valueOf(search(render()), 'TANDEM_DATA_DIR')).toBe('/data')
    const shared = renderSet(...MILVUS, 'replicas=5')
    expect(only(shared, 'Deployment').spec).toMatchObject({ replicas: 5 })
    expect(shared.some(({ kind }) => kind === 'StatefulSet')).toBe(false)
    expect(valueOf(search(shared), 'MILVUS_ADDRESS')).toBe('engine:19530')
    expect(valueOf(search(shared), 'TANDEM_DATA_DIR')).toBeUndefined()
  })

  it('adds its own Milvus on request and connects the service to it', () => {
    const own = renderSet(
      'vectorIndex=milvus',
      'milvusStandalone.enabled=true',
      'images.existingClaim=images',
    )
    const { metadata } = own.find(
      ({ kind, metadata }) =>
        kind === 'Service' && metadata.labels['app.kubernetes.io/name'] === 'milvus',
    ) as Resource
    expect(valueOf(search(own), 'MILVUS_ADDRESS')).toBe(`${metadata.name}:19530`)
    expect(valueOf(search(own), 'IMAGE_STORE')).toBe('/images')
  })

  it('separates encoders: roles, the key between them, and GPUs only for models', () => {
    const parted = renderSet(
      ...ENCODE,
      'encode.apiKey.value=between-pods',
      'apiKeys.values={first-key}',
      'gpu.enabled=true',
      'gpu.count=2',
    )
    const [searching, encoding] = [search(parted), encode(parted)]
    expect([valueOf(searching, 'TANDEM_ROLE'), valueOf(encoding, 'TANDEM_ROLE')]).toEqual([
      'search',
      'encode',
    ])
    const { metadata, spec } = only(parted, 'Service', 'photos-tandem-encode')
    expect(spec['selector']).toMatchObject({ 'app.kubernetes.io/component': 'encode' })
    expect(valueOf(searching, 'ENCODER_URL')).toBe(`http://${metadata.name}:80`)
    expect(variable(encoding, 'API_KEYS')?.valueFrom).toEqual(
      variable(searching, 'ENCODER_API_KEY')?.valueFrom,
    )
    expect(variable(searching, 'API_KEYS')?.valueFrom?.secretKeyRef.name).toBe('photos-tandem-keys')
    expect(encoding.containers[0].resources.limits['nvidia.com/gpu']).toBe(2)
    expect([
      valueOf(encoding, 'CUDA_VISIBLE_DEVICES'),
      valueOf(encoding, 'EXECUTION_PROVIDERS'),
    ]).toEqual(['0,1', 'cuda'])
    expect(encoding.tolerations).toHaveLength(1)
    expect(encoding.containers[0].image).toContain('gpu')
    expect(searching.containers[0].resources.limits).not.toHaveProperty(['nvidia.com/gpu'])
    expect(valueOf(searching, 'EXECUTION_PROVIDERS')).toBeUndefined()
    expect(valueOf(encoding, 'TANDEM_DATA_DIR')).toBeUndefined()
  })

  it('no Service selects the pod of the test', () => {
    const resources = renderSet(...ENCODE)
    const { metadata } = only(resources, 'Pod')
    for (const { kind, spec } of resources.filter(({ kind }) => kind === 'Service')) {
      const selector = Object.entries(spec['selector'] as Record<string, string>)
      expect(
        selector.every(([label, value]) => metadata.labels[label] === value),
        kind,
      ).toBe(false)
    }
  })

  it('allows connections only to the engine, the image store, the encoders and DNS', () => {
    expect(egressOf(render())).toEqual([])
    const parted = renderSet(...MILVUS, ...ENCODE, 'images.endpoint=http://minio:9000')
    expect(portsOf(parted)).toEqual([53, 53, 3000, 19530, 9000])
    expect(egressOf(parted, 'photos-tandem-encode')).toEqual([])
    expect(portsOf(renderSet(...MILVUS))).toEqual([53, 53, 19530, 443])
    expect(
      portsOf(
        renderSet(
          ...MILVUS,
          'milvus.address=https://engine.example',
          'images.endpoint=http://minio',
        ),
      ),
    ).toEqual([53, 53, 443, 80])
    expect(portsOf(renderSet('settings.ALLOWED_IMAGE_HOSTS=a.example\\,b.example:8443'))).toEqual([
      53, 53, 80, 443, 8443,
    ])
    expect(portsOf(renderSet('settings.PRIVATE_IMAGE_HOSTS=minio.storage:9000'))).toEqual([
      53, 53, 80, 443, 9000,
    ])
    const clients = 'networkPolicy.clients[0].podSelector.matchLabels.app=web'
    expect(
      only(renderSet(clients), 'NetworkPolicy', 'photos-tandem').spec['ingress'],
    ).toMatchObject([{ from: [{ podSelector: { matchLabels: { app: 'web' } } }, {}] }])
  })

  it('scales by CPU, and pods with models by their queue', () => {
    const metrics = (resources: Resource[], name: string) =>
      (
        only(resources, 'HorizontalPodAutoscaler', name).spec as { metrics: { type: string }[] }
      ).metrics.map(({ type }) => type)
    const whole = renderSet(...MILVUS, 'autoscaling.enabled=true')
    expect(metrics(whole, 'photos-tandem')).toEqual(['Resource', 'Pods'])
    expect(only(whole, 'Deployment').spec).not.toHaveProperty('replicas')
    const parted = renderSet(
      ...MILVUS,
      ...ENCODE,
      'autoscaling.enabled=true',
      'encode.autoscaling.enabled=true',
    )
    expect(metrics(parted, 'photos-tandem')).toEqual(['Resource'])
    expect(metrics(parted, 'photos-tandem-encode')).toEqual(['Resource', 'Pods'])
    const keda = renderSet(...MILVUS, 'autoscaling.enabled=true', 'autoscaling.kind=keda')
    expect(JSON.stringify(only(keda, 'ScaledObject').spec)).toContain('service=\\"photos-tandem\\"')
  })

  it('scales by a metric of the service, with the name in the values of the Prometheus adapter', () => {
    const metric = 'tandem_model_queue_depth'
    const adapter = parse(readFileSync(join(chart, '..', 'prometheus-adapter.yaml'), 'utf8')) as {
      rules: { custom: { seriesQuery: string }[] }
    }
    expect(adapter.rules.custom[0]?.seriesQuery).toMatch(new RegExp(`^${metric}\\{`))
    expect(JSON.stringify(renderSet(...MILVUS, 'autoscaling.enabled=true'))).toContain(
      `"name":"${metric}"`,
    )
    expect(
      readFileSync(join(packageFolder, 'src', 'http', 'plugins', 'metrics.ts'), 'utf8'),
    ).toContain(`'${metric}'`)
  })

  it('gives Prometheus the key of each kind of pod', () => {
    const monitored = renderSet(
      ...ENCODE,
      'serviceMonitor.enabled=true',
      'serviceMonitor.apiKey.existingSecret=metrics',
      'encode.apiKey.existingSecret=between',
    )
    const keyOf = (name: string) =>
      (
        only(monitored, 'ServiceMonitor', name).spec as {
          endpoints: { authorization: { credentials: object } }[]
        }
      ).endpoints[0]?.authorization.credentials
    expect(keyOf('photos-tandem')).toEqual({ name: 'metrics', key: 'METRICS_API_KEY' })
    expect(keyOf('photos-tandem-encode')).toEqual({ name: 'between', key: 'ENCODER_API_KEY' })
  })

  it('omits disabled resources', () => {
    const bare = renderSet(
      'networkPolicy.enabled=false',
      'podDisruptionBudget.enabled=false',
      'serviceAccount.create=false',
    )
    expect(bare.map(({ kind }) => kind).sort()).toEqual([
      'Pod',
      'Service',
      'Service',
      'StatefulSet',
    ])
  })

  it('stores keys in Secrets, or uses existing ones', () => {
    const made = renderSet('apiKeys.values={first-key,second-key}')
    expect(only(made, 'Secret').stringData).toEqual({ API_KEYS: 'first-key,second-key' })
    const existing = renderSet(
      ...MILVUS,
      'apiKeys.existingSecret=mine',
      'apiKeys.secretKey=keys',
      'milvus.token.existingSecret=theirs',
    )
    expect(existing.some(({ kind }) => kind === 'Secret')).toBe(false)
    expect(variable(search(existing), 'API_KEYS')?.valueFrom?.secretKeyRef).toEqual({
      name: 'mine',
      key: 'keys',
    })
    expect(variable(search(existing), 'MILVUS_TOKEN')?.valueFrom?.secretKeyRef.name).toBe('theirs')
    const [before, after] = ['one-token', 'new-token'].map((token) =>
      JSON.stringify(only(renderSet(...MILVUS, `milvus.token.value=${token}`), 'Deployment').spec),
    )
    // Pods read a Secret only at start, so a new one must restart them.
    expect(before).not.toBe(after)
    expect(before).not.toContain('one-token')
  })

  it('mounts a bundle of a volume next to those of the image, in the pods with models', () => {
    const claim = ['bundle.name=photos', 'bundle.existingClaim=bundles', 'bundle.subPath=v3']
    const parted = renderSet(...ENCODE, ...claim)
    const mount = { name: 'bundle', mountPath: '/app/models/photos', subPath: 'v3', readOnly: true }
    const volume = {
      name: 'bundle',
      persistentVolumeClaim: { claimName: 'bundles', readOnly: true },
    }
    for (const pod of [encode(parted), search(renderSet(...claim))]) {
      expect(pod.containers[0].volumeMounts).toContainEqual(mount)
      expect(pod.volumes).toContainEqual(volume)
      expect(pod.initContainers).toBeUndefined()
      expect(valueOf(pod, 'TANDEM_MODEL')).toBe('photos')
    }
    expect(JSON.stringify(search(parted))).not.toContain('bundle')
    const dockerfile = readFileSync(join(packageFolder, 'Dockerfile'), 'utf8')
    expect(dockerfile).toContain('WORKDIR /app\n')
    expect(dockerfile).toContain('COPY models ./models\n')
  })

  it('copies a bundle of an image by an init container with the rights of the service', () => {
    const pod = search(
      renderSet('bundle.name=photos', 'bundle.image=photos-bundle:3', 'bundle.imagePath=/b/'),
    )
    const [copying] = pod.initContainers ?? []
    expect(copying).toMatchObject({
      image: 'photos-bundle:3',
      command: ['cp', '-R', '/b/.', '/copy'],
      securityContext: pod.containers[0].securityContext,
      volumeMounts: [{ name: 'bundle', mountPath: '/copy' }],
    })
    expect(pod.containers[0].volumeMounts).toContainEqual({
      name: 'bundle',
      mountPath: '/app/models/photos',
      readOnly: true,
    })
    expect(pod.volumes).toContainEqual({ name: 'bundle', emptyDir: { sizeLimit: '2Gi' } })
  })

  it('serves the bundle that the settings name, beside a mounted one', () => {
    const pod = search(
      renderSet(
        'bundle.name=photos',
        'bundle.existingClaim=bundles',
        'settings.TANDEM_MODEL=tandem-small',
      ),
    )
    const variables = pod.containers[0].env.filter(({ name }) => name === 'TANDEM_MODEL')
    expect(variables).toEqual([{ name: 'TANDEM_MODEL', value: 'tandem-small' }])
  })

  it('sets TRUSTED_NETWORK only without keys', () => {
    const trusted = (...sets: string[]) => valueOf(search(renderSet(...sets)), 'TRUSTED_NETWORK')
    expect(trusted()).toBe('true')
    expect(trusted('apiKeys.values={first-key}')).toBeUndefined()
    expect(trusted('apiKeys.existingSecret=mine')).toBeUndefined()
    expect(trusted('apiKeys.file.existingSecret=mine')).toBeUndefined()
  })

  it.each([
    ['settings.PORT=80', /PORT/],
    ['settings.VECTOR_INDEX=exact', /VECTOR_INDEX/],
    ['settings.LOG_LEVLE=debug', /LOG_LEVLE[\s\S]*'LOG_LEVEL'/],
    ['encode.settings.MAX_PIXELS=1', /MAX_PIXELS[\s\S]*'MAX_IMAGE_PIXELS'/],
    ['bundle.name=photos', /bundle.existingClaim or bundle.image/],
    ['bundle.name=photos,bundle.existingClaim=a,bundle.image=b', /and not both/],
    ['bundle.image=b', /need bundle.name/],
    ['bundle.name=../photos,bundle.image=b', /bundle\/name/],
    ['bundle.claim=b', /claim/],
    ['apiKeys.values={short}', /apiKeys\/values\/0/],
    ['persistence.accessModes={ReadWriteMany}', /accessModes/],
    ['replica=2', /replica/],
    ['replicas=2', /embedded in one replica/],
    ['autoscaling.enabled=true', /embedded in one replica/],
    ['vectorIndex=milvus', /needs milvus.address or milvusStandalone/],
    [
      'vectorIndex=milvus,milvus.address=engine:19530',
      /needs images.store or images.existingClaim/,
    ],
    ['milvus.address=engine:19530', /for vectorIndex=milvus/],
    [
      'vectorIndex=milvus,milvusStandalone.enabled=true,milvusStandalone.imagePulls=1',
      /imagePulls/,
    ],
    ['apiKeys.values={first-key},apiKeys.existingSecret=mine', /exclude each other/],
    ['terminationGracePeriodSeconds=40', /at least 50 are needed/],
    ['serviceMonitor.enabled=true,apiKeys.existingSecret=mine', /Prometheus needs one/],
    ['gpu.executionProviders=rocm', /executionProviders/],
  ])('refuses %s', (sets, message) => {
    const { status, output } = run(helm, [
      'template',
      'photos',
      chart,
      '--kube-version',
      KUBERNETES,
      '--set',
      sets,
    ])
    expect(status).not.toBe(0)
    expect(output).toMatch(message)
  })
})
