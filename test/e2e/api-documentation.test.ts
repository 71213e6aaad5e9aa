/**
 * Schemathesis against a running service: every status, content type and body of an answer has to
 * be in the OpenAPI document. `npm test` installs it into test/.venv; `SCHEMATHESIS` names another.
 */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildApp, type Tandem } from '../../src/http/app.js'
import { packageFolder, readConfig } from '../../src/config.js'

const program = [
  process.env['SCHEMATHESIS'],
  join(packageFolder, 'test', '.venv', 'bin', 'schemathesis'),
].find((path) => path !== undefined && existsSync(path))
const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_headers_conformance',
  'response_schema_conformance',
]
const EXAMPLES = 15

describe.skipIf(program === undefined)(
  'the API documentation (needs schemathesis in test/.venv, where npm test installs it)',
  { timeout: 300_000 },
  () => {
    let folder: string
    let tandem: Tandem
    let address: string

    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'tandem-'))
      const config = readConfig({})
      tandem = await buildApp({
        ...config,
        // text-embeddings-inference has other bodies and answers at addresses of ours, which the
        // document describes for ours alone.
        dialects: config.dialects.filter((name) => name !== 'tei'),
        logLevel: 'silent',
        dataFolder: join(folder, 'data'),
        modelFolder: join(packageFolder, 'test/fixtures/tiny-bundle'),
        vectorIndex: 'exact',
        inferenceThreads: 1,
      })
      address = await tandem.app.listen({ host: '127.0.0.1', port: 0 })
      await tandem.start()
    })
    afterAll(async () => {
      await tandem.close()
      await rm(folder, { recursive: true, force: true })
    })

    /** @returns whether it found no fault, and its output */
    function schemathesis(
      document: string,
      ...more: string[]
    ): Promise<{ passed: boolean; output: string }> {
      const options = [
        `--url=${address}`,
        `--checks=${CHECKS.join(',')}`,
        '--warnings=off',
        ...more,
      ]
      const PYTHONPATH = join(packageFolder, 'test', 'e2e')
      const environment = {
        PATH: process.env['PATH'],
        PYTHONPATH,
        SCHEMATHESIS_HOOKS: 'schemathesis_hooks',
        PYTHONDONTWRITEBYTECODE: '1',
      }
      return new Promise((resolve) => {
        execFile(
          program ?? '',
          ['run', document, ...options],
          { cwd: folder, env: environment, maxBuffer: 2 ** 26 },
          (error, output, errors) => resolve({ passed: error === null, output: output + errors }),
        )
      })
    }

    it('names every status, content type and body of an answer', async () => {
      const seed = Date.now() % 1_000_000
      const options = [
        `--seed=${seed}`,
        `--max-examples=${EXAMPLES}`,
        '--phases=coverage,fuzzing,stateful',
      ]
      const { passed, output } = await schemathesis(`${address}/openapi.json`, ...options)
      expect(passed, output).toBe(true)
      expect(Number(/(\d+) generated/.exec(output)?.[1])).toBeGreaterThan(300)
    })

    it('fails the check if a status is missing', async () => {
      const document = (await tandem.app.inject('/openapi.json')).json<{
        paths: Record<string, Record<string, { responses: Record<string, unknown> }>>
      }>()
      delete document.paths['/items/{id}']?.['get']?.responses['404']
      const path = join(folder, 'openapi.json')
      await writeFile(path, JSON.stringify(document))
      const { passed, output } = await schemathesis(
        path,
        '--seed=1',
        '--max-examples=5',
        '--include-path=/items/{id}',
      )
      expect(passed).toBe(false)
      expect(output).toMatch(/Received: 404/)
    })
  },
)
