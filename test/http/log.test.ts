import { execFile } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'
import { mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageFolder } from '../../src/config.js'
import { openAuditLog } from '../../src/http/log.js'

const run = promisify(execFile)
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-log-'))
})

afterAll(() => rm(folder, { recursive: true }))

/** What a process writes to a stdout that is, or is not, a terminal. */
async function stdoutOf(isTerminal: boolean, script: string): Promise<string> {
  const module = pathToFileURL(join(packageFolder, 'src/http/log.ts')).href
  const loader = pathToFileURL(join(packageFolder, 'test/support/run-source.mjs')).href
  const source = `process.stdout.isTTY = ${isTerminal}
    const { openLog, openAuditLog } = await import(${JSON.stringify(module)})
    ${script}`
  const options = ['--import', loader, '--input-type=module', '-e', source]
  return (await run(process.execPath, options)).stdout
}

describe('the log', () => {
  const script = `openLog('info').info({ bundle: 'tandem-small' }, 'the model is open')`

  it('is JSON lines where stdout is no terminal', async () => {
    const [line = ''] = (await stdoutOf(false, script)).split('\n')
    expect(JSON.parse(line)).toMatchObject({
      level: 30,
      msg: 'the model is open',
      bundle: 'tandem-small',
    })
  }, 30_000)

  it('is readable lines on a terminal', async () => {
    const text = await stdoutOf(true, script)
    expect(text).toMatch(
      /^\[\d\d:\d\d:\d\d\] INFO: the model is open \{"bundle":"tandem-small"\}\n$/,
    )
  }, 30_000)
})

describe('the audit', () => {
  const script = `openAuditLog(undefined, 'warn').log.info('add: created')`

  it('goes to stdout, but not to a terminal', async () => {
    expect(JSON.parse(await stdoutOf(false, script))).toMatchObject({ audit: true })
    expect(await stdoutOf(true, script)).toBe('')
  }, 30_000)

  it('goes to a file that only its owner can read, and to a new one after it was renamed', async () => {
    const path = join(folder, 'logs', 'audit.log')
    const { log, reopen } = openAuditLog(path, 'silent')
    log.info('first')
    await rename(path, `${path}.1`)
    reopen()
    await expect.poll(() => existsSync(path)).toBe(true)
    log.info('second')
    expect(await readFile(`${path}.1`, 'utf8')).toContain('"msg":"first"')
    expect(await readFile(path, 'utf8')).toContain('"msg":"second"')
    const { mode } = statSync(path)
    expect(mode & 0o777).toBe(0o600)
  })
})
