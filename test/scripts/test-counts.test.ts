import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { packageFolder } from '../../src/config.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tandem-test-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

function counts(
  kind: string,
  report: string,
): { status: number | null; stdout: string; stderr: string } {
  const path = join(folder, 'report')
  writeFileSync(path, report)
  return spawnSync(
    process.execPath,
    [join(packageFolder, 'scripts', 'test-counts.mjs'), kind, path],
    {
      encoding: 'utf8',
    },
  )
}

describe('test-counts', () => {
  it('adds the suites of a junit report', () => {
    const report =
      '<testsuites><testsuite name="a" errors="1" failures="2" skipped="3" tests="10" time="0"></testsuite>' +
      '<testsuite name="b" errors="0" failures="0" skipped="0" tests="5"></testsuite></testsuites>'
    expect(counts('junit', report).stdout).toBe('9 3 3\n')
  })

  it('reads a vitest report, and counts a file that failed to load', () => {
    const report = {
      numPassedTests: 4,
      numFailedTests: 1,
      numPendingTests: 2,
      numTodoTests: 0,
      testResults: [
        {
          name: 'a.test.ts',
          status: 'failed',
          message: '',
          assertionResults: [
            {
              status: 'failed',
              fullName: 'a thing works',
              failureMessages: ['Error: it does not\n    at a.test.ts'],
            },
          ],
        },
        { name: 'b.test.ts', status: 'failed', message: 'Cannot load it', assertionResults: [] },
        {
          name: 'c.test.ts',
          status: 'passed',
          message: '',
          assertionResults: [{ status: 'passed', fullName: 'c', failureMessages: [] }],
        },
      ],
    }
    const { stdout, stderr } = counts('vitest', JSON.stringify(report))
    expect(stdout).toBe('4 2 2\n')
    expect(stderr.split('\n').filter((line) => line !== '')).toEqual([
      'failed: b.test.ts: Cannot load it',
      'failed: a.test.ts: a thing works: Error: it does not',
    ])
  })

  it('fails for an invalid report', () => {
    expect(counts('vitest', 'nonsense').status).not.toBe(0)
    expect(counts('mocha', '{}').status).not.toBe(0)
  })
})
