import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { tandem as TandemClient } from '../../clients/typescript/index.js'
import { packageFolder } from '../../src/config.js'
import { clientSchema, clientSchemaPath } from '../support/client-schema.js'
import { startTestService, type TestService } from '../support/test-service.js'

const KEY = 'first-secret'
let service: TestService
let url: string
let built: string
let tandem: typeof TandemClient

beforeAll(async () => {
  service = await startTestService({ apiKeys: [KEY] })
  await service.retrieval.add({ id: 'a/dog', image: Buffer.from('dog 3'), payload: { year: 2024 } })
  url = await service.app.listen({ host: '127.0.0.1', port: 0 })
  built = mkdtempSync(join(tmpdir(), 'tandem-client-'))
  const compiler = join(packageFolder, 'node_modules', 'typescript', 'bin', 'tsc')
  const project = join(packageFolder, 'clients', 'typescript')
  const { status, stdout } = spawnSync(
    process.execPath,
    [compiler, '-p', project, '--outDir', built],
    { encoding: 'utf8' },
  )
  expect(status, stdout).toBe(0)
  symlinkSync(join(packageFolder, 'node_modules'), join(built, 'node_modules'))
  const module = (await import(pathToFileURL(join(built, 'index.js')).href)) as {
    tandem: typeof TandemClient
  }
  tandem = module.tandem
})
afterAll(async () => {
  service.app.server.closeAllConnections()
  await service.end()
  rmSync(built, { recursive: true })
})

describe('the TypeScript client', () => {
  it('has the types of the service as it is (npm run clients writes them)', async () => {
    expect(readFileSync(clientSchemaPath, 'utf8')).toBe(await clientSchema())
  })

  it('searches with a filter, and reads an item whose id has a slash', async () => {
    const client = tandem({ url: `${url}/`, apiKey: KEY })
    const filter = { must: [{ key: 'year', match: 2024 }] }
    const { data } = await client.POST('/search', { body: { text: 'dog', k: 5, filter } })
    expect(data?.hits.map(({ id, match }) => [id, typeof match])).toEqual([['a/dog', 'number']])
    const item = await client.GET('/items/{id}', { params: { path: { id: 'a/dog' } } })
    expect(item.data?.payload).toEqual({ year: 2024 })
  })

  it('gives a refusal as a problem with its code', async () => {
    const client = tandem({ url, apiKey: KEY })
    const { error, response } = await client.GET('/items/{id}', {
      params: { path: { id: 'nothing' } },
    })
    expect([error?.code, error?.status, response.status]).toEqual(['item_not_found', 404, 404])
    const locked = await tandem({ url, apiKey: 'another-secret' }).GET('/items', {})
    expect(locked.error?.code).toBe('unauthorized')
  })

  it('needs nothing of Node, so it runs in a browser', () => {
    const code = readFileSync(join(built, 'index.js'), 'utf8')
    const imports = [...code.matchAll(/from '([^']+)'/g)].map(([, name]) => name)
    expect(imports).toEqual(['openapi-fetch'])
    expect(code).not.toMatch(/process|Buffer|require/)
  })
})
