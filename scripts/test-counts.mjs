// Prints "passed failed skipped" of a suite's report, and a line on stderr for each failed test.
// Usage: node scripts/test-counts.mjs vitest|junit <report>
import { readFileSync } from 'node:fs'
import { relative } from 'node:path'

const [kind, path] = process.argv.slice(2)
const text = readFileSync(path, 'utf8')

function vitest() {
  const report = JSON.parse(text)
  // A file that failed to load has no failed test, and counts as one failure.
  const broken = report.testResults.filter(
    (file) =>
      file.status === 'failed' && file.assertionResults.every((test) => test.status !== 'failed'),
  )
  for (const { name, message } of broken) printFailure(name, message)
  for (const { name, assertionResults } of report.testResults) {
    for (const test of assertionResults.filter(({ status }) => status === 'failed')) {
      printFailure(name, test.fullName, test.failureMessages[0] ?? '')
    }
  }
  return [
    report.numPassedTests,
    report.numFailedTests + broken.length,
    report.numPendingTests + report.numTodoTests,
  ]
}

function junit() {
  const totals = { tests: 0, failures: 0, errors: 0, skipped: 0 }
  for (const [tag] of text.matchAll(/<testsuite\s[^>]*>/g)) {
    for (const name of Object.keys(totals)) {
      totals[name] += Number(new RegExp(`\\s${name}="(\\d+)"`).exec(tag)?.[1] ?? 0)
    }
  }
  for (const [, name, of, message] of text.matchAll(
    /<testcase classname="([^"]*)" name="([^"]*)"[^>]*><(?:failure|error) message="([^"]*)"/g,
  )) {
    printFailure(name, of, message)
  }
  const failed = totals.failures + totals.errors
  return [totals.tests - failed - totals.skipped, failed, totals.skipped]
}

function printFailure(file, ...texts) {
  const [name, ...rest] = [relative('.', file), ...texts].map((part) => part.split(/\n|&#10;/)[0])
  console.error(`failed: ${name}: ${rest.join(': ')}`.slice(0, 400))
}

const readers = { vitest, junit }
if (!(kind in readers)) throw new Error(`unknown report "${kind}": expected vitest or junit`)
process.stdout.write(`${readers[kind]().join(' ')}\n`)
