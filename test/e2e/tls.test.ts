/** The service with a certificate, which openssl creates here. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import { connect } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { TLSSocket } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { readCertificate } from '../../src/http/tls.js'
import { packageFolder } from '../../src/config.js'
import { addressWhenReady } from '../support/server-output.js'
import { startTestService, type TestService } from '../support/test-service.js'

vi.setConfig({ testTimeout: 180_000 })

const hasOpenssl = spawnSync('openssl', ['version']).status === 0
let folder: string
let tandem: TestService
let port: number

function make(name: string): void {
  const files = ['-keyout', join(folder, `${name}.key`), '-out', join(folder, `${name}.pem`)]
  const subject = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2']
  const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  const { status, stderr } = spawnSync('openssl', ['req', ...kind, ...files, ...subject], {
    encoding: 'utf8',
  })
  expect(stderr).toBeTruthy()
  expect(status).toBe(0)
}

/** The status of an answer over TLS, and the name in the certificate. */
async function ask(
  authority: string,
  path = '/health/ready',
  at = port,
): Promise<{ status: number; name: string }> {
  const ca = await readFile(join(folder, `${authority}.pem`))
  return new Promise((resolve, reject) => {
    request({ host: '127.0.0.1', port: at, path, ca, agent: false }, (response) => {
      const { subject } = (response.socket as TLSSocket).getPeerCertificate()
      response
        .resume()
        .on('end', () => resolve({ status: response.statusCode ?? 0, name: String(subject.CN) }))
    })
      .on('error', reject)
      .end()
  })
}

describe.skipIf(!hasOpenssl)('with a certificate (openssl makes it)', () => {
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tandem-tls-'))
    make('first')
    make('second')
    await cp(join(folder, 'first.pem'), join(folder, 'own.pem'))
    await cp(join(folder, 'first.key'), join(folder, 'own.key'))
    tandem = await startTestService({
      tlsCertFile: join(folder, 'own.pem'),
      tlsKeyFile: join(folder, 'own.key'),
      limits: { headersTimeoutMs: 500 },
    })
    const address = await tandem.app.listen({ host: '127.0.0.1', port: 0 })
    expect(address).toMatch(/^https:/)
    port = (tandem.app.server.address() as AddressInfo).port
  })
  afterAll(async () => {
    await tandem.end()
    await rm(folder, { recursive: true })
  })

  it('answers over TLS to a client that knows the authority', async () => {
    expect(await ask('first')).toEqual({ status: 200, name: 'first' })
    expect(await ask('first', '/search?q=a')).toMatchObject({ status: 200 })
    await expect(ask('second')).rejects.toThrow(/self-signed|unable to verify|certificate/i)
  })

  it('does not answer without TLS and closes a connection without a handshake', async () => {
    await expect(fetch(`http://127.0.0.1:${port}/health/ready`)).rejects.toThrow()
    const socket = connect(port, '127.0.0.1').on('error', () => undefined)
    await new Promise((resolve) => socket.once('close', resolve))
    expect(await ask('first')).toMatchObject({ status: 200 })
  })

  it('loads a renewed certificate without a restart, and keeps the old one if the new one is broken', async () => {
    await cp(join(folder, 'second.pem'), join(folder, 'own.pem'))
    // A certificate and the key of another one, as in the middle of a renewal.
    await tandem.reload()
    expect(await ask('first')).toMatchObject({ name: 'first' })
    await cp(join(folder, 'second.key'), join(folder, 'own.key'))
    await tandem.reload()
    expect(await ask('second')).toEqual({ status: 200, name: 'second' })
    await rm(join(folder, 'own.pem'))
    await tandem.reload()
    expect(await ask('second')).toMatchObject({ status: 200 })
  })

  it('an unusable certificate is refused with a message', async () => {
    const [tlsCertFile, tlsKeyFile] = [join(folder, 'first.pem'), join(folder, 'first.key')]
    await writeFile(join(folder, 'broken.pem'), 'no certificate')
    const broken = join(folder, 'broken.pem')
    for (const [files, sentence] of [
      [{ tlsCertFile, tlsKeyFile: undefined }, /set both TLS_CERT_FILE and TLS_KEY_FILE/],
      [{ tlsCertFile: undefined, tlsKeyFile }, /set both/],
      [
        { tlsCertFile: join(folder, 'none.pem'), tlsKeyFile },
        /none\.pem cannot be read \(ENOENT\)/,
      ],
      [
        { tlsCertFile: broken, tlsKeyFile },
        /broken\.pem and .*first\.key are not a certificate and its key/,
      ],
      [
        { tlsCertFile, tlsKeyFile: join(folder, 'second.key') },
        /are not a certificate and its key/,
      ],
    ] as const) {
      await expect(readCertificate(files)).rejects.toThrow(sentence)
    }
    expect(await readCertificate({ tlsCertFile: undefined, tlsKeyFile: undefined })).toBeNull()
  })

  it(
    'SIGHUP renews the certificate, and the health check of the container works over TLS',
    { timeout: 60_000 },
    async () => {
      for (const end of ['pem', 'key'])
        await cp(join(folder, `first.${end}`), join(folder, `live.${end}`))
      const child = serve('live.key')
      try {
        const at = await portWhenReady(child)
        expect(await ask('first', '/health/ready', at)).toEqual({ status: 200, name: 'first' })
        for (const end of ['pem', 'key'])
          await cp(join(folder, `second.${end}`), join(folder, `live.${end}`))
        child.kill('SIGHUP')
        const handshake = async (): Promise<string> =>
          (await ask('second', '/health/ready', at)).name
        await expect.poll(() => handshake().catch(String), { timeout: 10_000 }).toBe('second')
        await writeFile(join(folder, 'live.pem'), 'half of a cert')
        child.kill('SIGHUP')
        for await (const line of createInterface({ input: child.stdout })) {
          if (line.includes('The previous certificate stays in use.')) break
        }
        expect(await handshake()).toBe('second')
        expect(await healthCheck(at)).toBe(0)
        expect(await healthCheck(1)).toBe(1)
      } finally {
        child.kill('SIGKILL')
        await once(child, 'exit')
      }
    },
  )

  it(
    'a broken certificate keeps the process from starting, with a message',
    { timeout: 60_000 },
    async () => {
      const child = serve('second.key', 'first.pem')
      let said = ''
      child.stderr.on('data', (bytes: Buffer) => (said += bytes.toString()))
      child.stdout.resume()
      const [code] = (await once(child, 'close')) as [number]
      expect(code).toBe(1)
      expect(said).toMatch(
        /^tandem cannot start: .*first\.pem and .*second\.key are not a certificate and its key: .+\n$/,
      )
    },
  )
})

/** The process as `npm start` runs it. */
function serve(key: string, certificate = 'live.pem') {
  const loader = join(packageFolder, 'test', 'support', 'run-source.mjs')
  return spawn(process.execPath, ['--import', loader, join(packageFolder, 'src', 'server.ts')], {
    env: {
      PATH: process.env['PATH'],
      PORT: '0',
      TANDEM_DATA_DIR: join(folder, 'data'),
      TANDEM_MODEL: join(packageFolder, 'test', 'fixtures', 'tiny-bundle'),
      TLS_CERT_FILE: join(folder, certificate),
      TLS_KEY_FILE: join(folder, key),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

async function portWhenReady({ stdout, stderr }: ReturnType<typeof serve>): Promise<number> {
  const log: string[] = []
  stderr.on('data', (bytes: Buffer) => log.push(bytes.toString()))
  const { protocol, port } = new URL(await addressWhenReady(stdout, log))
  expect(protocol).toBe('https:')
  return Number(port)
}

/** The exit code of the health check in the Dockerfile. */
async function healthCheck(at: number): Promise<number | null> {
  const dockerfile = await readFile(join(packageFolder, 'Dockerfile'), 'utf8')
  const [, command = ''] = /^HEALTHCHECK .*\\\n\s+CMD (\[.*\])$/m.exec(dockerfile) ?? []
  const [, ...args] = JSON.parse(command) as string[]
  return spawnSync(process.execPath, args, { env: { PORT: String(at), TLS_CERT_FILE: 'given' } })
    .status
}
