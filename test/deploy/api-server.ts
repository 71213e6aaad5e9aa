/**
 * A Kubernetes API server with its etcd, to validate and admit objects. Nothing runs pods.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { stringify } from 'yaml'
import { freePort } from '../support/free-port.js'

/** Path of the objects of a kind, in a namespace if one is given. */
export interface Place {
  prefix: string
  plural: string
  namespace?: string
}
export interface Answer {
  status: number
  /**
   * The Warning headers: deprecated versions, unknown fields, pods that would be refused.
   */
  warnings: string[]
  body: Record<string, unknown>
}
export interface ApiServer {
  /** Path of the kubeconfig for helm. */
  kubeconfig: string
  version: string
  create: (place: Place, object: object) => Promise<Answer>
  stop: () => Promise<void>
}

const START_MS = 120_000

/** @param commands - paths of etcd and kube-apiserver */
export async function startApiServer(commands: {
  etcd: string
  kubeApiserver: string
}): Promise<ApiServer> {
  const folder = mkdtempSync(join(tmpdir(), 'api-server-'))
  const [client, peer, port] = [await freePort(), await freePort(), await freePort()]
  const token = randomUUID()
  const at = (name: string): string => join(folder, name)
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  writeFileSync(at('service-accounts.key'), privateKey.export({ type: 'pkcs8', format: 'pem' }))
  writeFileSync(at('service-accounts.pub'), publicKey.export({ type: 'spki', format: 'pem' }))
  writeFileSync(at('tokens.csv'), `${token},admin,admin,"system:masters"\n`, { mode: 0o600 })
  const children: ChildProcess[] = []
  const log = { text: '' }
  const start = (command: string, flags: Record<string, string>): void => {
    const child = spawn(
      command,
      Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`),
      { cwd: folder },
    )
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (data: Buffer) => (log.text += data.toString()))
    children.push(child)
  }
  const stop = async (): Promise<void> => {
    await Promise.all(children.reverse().map((child) => ended(child)))
    rmSync(folder, { recursive: true, force: true })
  }
  const etcd = `http://127.0.0.1:${client}`
  start(commands.etcd, {
    'data-dir': at('etcd'),
    'listen-client-urls': etcd,
    'advertise-client-urls': etcd,
    'listen-peer-urls': `http://127.0.0.1:${peer}`,
    'log-level': 'error',
    'unsafe-no-fsync': 'true',
  })
  start(commands.kubeApiserver, {
    'etcd-servers': etcd,
    'bind-address': '127.0.0.1',
    'secure-port': String(port),
    'cert-dir': at('certificates'),
    'token-auth-file': at('tokens.csv'),
    'authorization-mode': 'RBAC',
    'service-account-issuer': 'https://kubernetes.default.svc',
    'service-account-key-file': at('service-accounts.pub'),
    'service-account-signing-key-file': at('service-accounts.key'),
    'service-cluster-ip-range': '10.0.0.0/24',
    // No controller creates the default service account, for which this would wait.
    'disable-admission-plugins': 'ServiceAccount',
  })

  const certificate = at('certificates/apiserver.crt')
  const ask = (method: string, path: string, object?: object): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
      const ca = readFileSync(certificate)
      const asked = request({ host: '127.0.0.1', port, method, path, headers, ca }, (answer) => {
        let text = ''
        answer.on('data', (data: Buffer) => (text += data.toString()))
        answer.on('end', () => {
          const warnings = [answer.headers['warning'] ?? []].flat()
          const body = text.startsWith('{')
            ? (JSON.parse(text) as Record<string, unknown>)
            : { text }
          resolve({ status: answer.statusCode ?? 0, warnings, body })
        })
      })
      asked.on('error', reject)
      asked.end(object === undefined ? undefined : JSON.stringify(object))
    })
  const ready = async (): Promise<boolean> =>
    existsSync(certificate) &&
    (await ask('GET', '/readyz').catch(() => ({ status: 0 }))).status === 200

  for (const begun = Date.now(); !(await ready()); await sleep(250)) {
    if (Date.now() - begun < START_MS && children.every(({ exitCode }) => exitCode === null))
      continue
    await stop()
    throw new Error(`the API server did not start:\n${log.text.slice(-4000)}`)
  }
  const kubeconfig = at('kubeconfig')
  const server = { server: `https://127.0.0.1:${port}`, 'certificate-authority': certificate }
  const contents = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'here', cluster: server }],
    users: [{ name: 'admin', user: { token } }],
    contexts: [{ name: 'here', context: { cluster: 'here', user: 'admin' } }],
    'current-context': 'here',
  }
  writeFileSync(kubeconfig, stringify(contents), { mode: 0o600 })
  const { body } = await ask('GET', '/version')
  const create = (place: Place, object: object): Promise<Answer> => {
    const { prefix, plural, namespace } = place
    const path = namespace === undefined ? plural : `namespaces/${namespace}/${plural}`
    return ask('POST', `${prefix}/${path}?fieldValidation=Strict`, object)
  }
  return { kubeconfig, version: String(body['gitVersion']), create, stop }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
  const exit = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  const late = setTimeout(() => child.kill('SIGKILL'), 20_000)
  await exit
  clearTimeout(late)
}
