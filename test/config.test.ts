import { readFileSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ConfigError, packageFolder, readConfig, settings } from '../src/config.js'

const rows = Object.entries(settings).map(([variable, { default: fallback }]) => ({
  variable,
  fallback: String(fallback),
}))
const byName = (a: { variable: string }, b: { variable: string }): number =>
  a.variable.localeCompare(b.variable)

describe('the settings', () => {
  it('are those of docs/configuration.md, with the same defaults', () => {
    const text = readFileSync(join(packageFolder, 'docs/configuration.md'), 'utf8')
    const documented = [...text.matchAll(/^\| `([A-Z][A-Z0-9_]*)` \| (?:`(.*?)`)? ?\|/gm)].map(
      ([, variable = '', fallback = '']) => ({
        variable,
        fallback,
      }),
    )
    expect(documented.sort(byName)).toEqual(rows.toSorted(byName))
  })

  it('are those of .env.example, with the same defaults', () => {
    const text = readFileSync(join(packageFolder, '.env.example'), 'utf8')
    const listed = [...text.matchAll(/^([A-Z][A-Z0-9_]*)=(.*)$/gm)].map(
      ([, variable = '', fallback = '']) => ({
        variable,
        fallback,
      }),
    )
    expect(listed.sort(byName)).toEqual(rows.toSorted(byName))
  })

  it('take their defaults from an empty environment, and from empty values', () => {
    const config = readConfig({})
    expect(config).toMatchObject({
      host: '127.0.0.1',
      port: 3000,
      apiKeys: [],
      vectorIndex: 'hnsw',
    })
    expect(readConfig({ HOST: '', PORT: ' ' })).toEqual(config)
  })

  it('read the environment', () => {
    const config = readConfig({
      PORT: '0',
      VECTOR_INDEX: 'exact',
      API_KEYS: 'first-key, second-key',
    })
    expect(config).toMatchObject({
      port: 0,
      vectorIndex: 'exact',
      apiKeys: ['first-key', 'second-key'],
    })
  })

  it('keep the order of providers', () => {
    const { executionProviders } = readConfig({ EXECUTION_PROVIDERS: 'tensorrt, cuda,cpu' })
    expect(executionProviders).toEqual(['tensorrt', 'cuda', 'cpu'])
    expect(readConfig({}).executionProviders).toEqual(['cpu'])
  })

  it('number the GPUs of CUDA_VISIBLE_DEVICES from 0, as CUDA does', () => {
    expect(readConfig({ CUDA_VISIBLE_DEVICES: '3,GPU-8932f937' }).gpuDevices).toEqual([0, 1])
    expect(readConfig({}).gpuDevices).toEqual([0])
  })

  it('read hosts of images with and without ports', () => {
    const { allowedImageHosts } = readConfig({
      ALLOWED_IMAGE_HOSTS: 'A.example, b.example:8443,[2606:4700::1]:8080',
    })
    expect(allowedImageHosts).toEqual(['a.example', 'b.example:8443', '[2606:4700::1]:8080'])
  })

  it('read origins of pages as browsers send them', () => {
    const { allowedOrigins } = readConfig({
      ALLOWED_ORIGINS:
        'https://Photos.example/, http://localhost:5173,https://a.example:443,App://Photos',
    })
    expect(allowedOrigins).toEqual([
      'https://photos.example',
      'http://localhost:5173',
      'https://a.example',
      'app://photos',
    ])
    expect(readConfig({}).allowedOrigins).toEqual([])
  })

  it.each([
    ['s3://photos', { bucket: 'photos', prefix: '' }],
    ['s3://photos/', { bucket: 'photos', prefix: '' }],
    ['s3://my.photos/tandem/eu-1', { bucket: 'my.photos', prefix: 'tandem/eu-1' }],
    ['/srv/images', { folder: '/srv/images' }],
    ['', undefined],
  ])('read the image store %s', (raw, imageStore) => {
    expect(readConfig({ IMAGE_STORE: raw }).imageStore).toEqual(imageStore)
  })

  it('read the address of an S3-compatible server without its last slash', () => {
    expect(readConfig({ S3_ENDPOINT: 'https://s3.example:9000/' }).s3Endpoint).toBe(
      'https://s3.example:9000',
    )
    expect(readConfig({}).s3Endpoint).toBeUndefined()
  })

  it('find a bundle by its name in models/ or by its path', () => {
    expect(readConfig({ TANDEM_MODEL: 'other' }).modelFolder).toBe(
      join(packageFolder, 'models', 'other'),
    )
    const relative = readConfig({ TANDEM_MODEL: './models/other' }).modelFolder
    expect(isAbsolute(relative)).toBe(true)
    expect(relative.endsWith(join('models', 'other'))).toBe(true)
  })

  it.each([
    ['PORT', 'abc'],
    ['PORT', '65536'],
    ['PORT', '-1'],
    ['PORT', '1e3'],
    ['MAX_BATCH_ITEMS', '0'],
    ['LOG_LEVEL', 'loud'],
    ['VECTOR_INDEX', 'HNSW'],
    ['EXECUTION_PROVIDERS', 'gpu'],
    ['EXECUTION_PROVIDERS', 'cuda,cuda'],
    ['EXECUTION_PROVIDERS', 'cuda,'],
    ['PORT', '0x10'],
    ['TRUSTED_NETWORK', '1'],
    ['MILVUS_COLLECTION', '1st'],
    ['ALLOWED_HOSTS', 'localhost:3000'],
    ['ALLOWED_HOSTS', 'http://a.example'],
    ['ALLOWED_IMAGE_HOSTS', 'http://a.example'],
    ['ALLOWED_IMAGE_HOSTS', 'a example'],
    ['ALLOWED_IMAGE_HOSTS', 'a.example:443'],
    ['ALLOWED_IMAGE_HOSTS', 'a.example:70000'],
    ['ALLOWED_IMAGE_HOSTS', 'a.example/b'],
    ['PRIVATE_IMAGE_HOSTS', '10.0.0.0/8'],
    ['PRIVATE_IMAGE_HOSTS', 'minio:80'],
    ['ALLOWED_ORIGINS', '*'],
    ['ALLOWED_ORIGINS', 'null'],
    ['ALLOWED_ORIGINS', 'photos.example'],
    ['ALLOWED_ORIGINS', 'https://*.photos.example'],
    ['ALLOWED_ORIGINS', 'https://photos.example/app'],
    ['ALLOWED_ORIGINS', 'https://user@photos.example'],
    ['ALLOWED_ORIGINS', 'app://photos/'],
    ['IMAGE_STORE', 's3://'],
    ['IMAGE_STORE', 's3://Photos'],
    ['IMAGE_STORE', 's3://photos/../others'],
    ['IMAGE_STORE', 's3://photos/a//b'],
    ['IMAGE_STORE', 'https://photos.example'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'collector:4317'],
    ['S3_ENDPOINT', 's3.example:9000'],
    ['S3_ENDPOINT', 'https://s3.example/photos'],
    ['S3_ENDPOINT', 'https://user@s3.example'],
  ])('refuse %s=%s and name what the setting takes', (variable, value) => {
    expect(() => readConfig({ [variable]: value })).toThrow(ConfigError)
    expect(() => readConfig({ [variable]: value })).toThrow(
      new RegExp(`^${variable} takes .*, not "${value.replaceAll('*', '\\*')}"`),
    )
  })

  it.each([
    ['TANDEM_MODLE', 'TANDEM_MODEL'],
    ['TANDEM_DATA', 'TANDEM_DATA_DIR'],
    ['TANDEM_DATA_DIRECTORY', 'TANDEM_DATA_DIR'],
    ['TANDEM_PORT', 'PORT'],
    ['TANDEM_LOG_LEVEL', 'LOG_LEVEL'],
    ['tandem_role', 'TANDEM_ROLE'],
    ['LOG_LEVLE', 'LOG_LEVEL'],
    ['log_level', 'LOG_LEVEL'],
    ['MAX_IMAGE_PIXEL', 'MAX_IMAGE_PIXELS'],
    ['RATE_LIMIT_PER_SEC0ND', 'RATE_LIMIT_PER_SECOND'],
    ['BACKUPDIR', 'BACKUP_DIR'],
    ['API_KEY_FILE', 'API_KEYS_FILE'],
    ['TRUSTED_NETWORKS', 'TRUSTED_NETWORK'],
  ])('refuse %s and name %s', (variable, nearest) => {
    expect(() => readConfig({ [variable]: '1' })).toThrow(ConfigError)
    expect(() => readConfig({ [variable]: '1' })).toThrow(
      `${variable} is not a setting. Did you mean ${nearest}?`,
    )
    expect(() => readConfig({ [variable]: '' })).not.toThrow()
  })

  it('refuse a variable with the prefix of the service that is near to no setting', () => {
    expect(() => readConfig({ TANDEM_QX: '1' })).toThrow(/^TANDEM_QX is not a setting\.$/)
  })

  it.each([
    // Of Kubernetes, for Services of the names tandem, milvus and s3.
    ['TANDEM_SERVICE_HOST', '10.0.0.7'],
    ['TANDEM_SERVICE_PORT', '80'],
    ['TANDEM_SERVICE_PORT_HTTP', '80'],
    ['TANDEM_PORT', 'tcp://10.0.0.7:80'],
    ['TANDEM_PORT_80_TCP', 'tcp://10.0.0.7:80'],
    ['TANDEM_PORT_80_TCP_ADDR', '10.0.0.7'],
    ['TANDEM_HEADLESS_SERVICE_HOST', 'None'],
    ['MILVUS_PORT_19530_TCP_ADDR', '10.0.0.8'],
    ['S3_SERVICE_HOST', '10.0.0.9'],
    ['KUBERNETES_SERVICE_HOST', '10.0.0.1'],
    // Of other programs.
    ['HOSTNAME', 'a'],
    ['POST', 'a'],
    ['PORTS', '80'],
    ['GHOST', 'a'],
    ['API_KEY', 'of-another-program'],
    ['LOGLEVEL', 'debug'],
    ['LOGNAME', 'a'],
    ['DIALECT', 'sqlite'],
    ['AWS_REGION', 'eu-central-1'],
    ['OS_REGION', 'a'],
    ['R2_ENDPOINT', 'https://a.example'],
    ['AWS_ENDPOINT_URL_S3', 'https://a.example'],
    ['SSL_CERT_FILE', '/etc/ssl/cert.pem'],
    ['NVIDIA_VISIBLE_DEVICES', 'all'],
    ['HIP_VISIBLE_DEVICES', '0'],
    ['MILVUS_URI', 'http://a.example'],
    ['REQUEST_TIMEOUT', '30'],
    ['OTEL_TRACES_SAMPLER', 'always_on'],
  ])('leave %s=%s to its program', (variable, value) => {
    expect(readConfig({ [variable]: value })).toEqual(readConfig({}))
  })

  it('report misspelt names with bad values', () => {
    expect(() => readConfig({ PORT: 'x', TANDEM_MODLE: 'a' })).toThrow(
      /^PORT takes .*, not "x"\.\nTANDEM_MODLE is not a setting\. Did you mean TANDEM_MODEL\?$/,
    )
  })

  it('report all problems at once, without secrets', () => {
    const read = (): unknown =>
      readConfig({ PORT: 'x', API_KEYS: 'hunter2', ENCODER_API_KEY: 'hünter3' })
    expect(read).toThrow(
      /^PORT takes .*, not "x"\.\nENCODER_API_KEY takes visible ASCII characters\.\nAPI_KEYS takes keys of 8 or more .*\.$/,
    )
    expect(read).not.toThrow(/h.nter/)
  })
})
