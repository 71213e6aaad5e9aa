/**
 * The alerts beside the compose file and in the chart. scripts/kubernetes-tools.sh builds promtool
 * and helm.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { parse } from 'yaml'
import { chart, find, helm, only, render, run } from './chart.js'

vi.setConfig({ testTimeout: 60_000 })

interface Rules {
  groups: { name: string; rules: { alert: string; annotations: Record<string, string> }[] }[]
}
interface Cases {
  tests: { alert_rule_test: { alertname: string; exp_alerts: unknown[] }[] }[]
}

const file = join(chart, 'alerts.yaml')
const cases = join(import.meta.dirname, 'alerts.promtool.yaml')
const rules = parse(readFileSync(file, 'utf8')) as Rules
const alerts = rules.groups.flatMap((group) => group.rules.map(({ alert }) => alert))
const promtool = find('promtool')

describe('the alerts', () => {
  it('are tested both where they fire and where they do not', () => {
    const { tests } = parse(readFileSync(cases, 'utf8')) as Cases
    const tested = tests.flatMap((test) => test.alert_rule_test)
    const names = (fires: boolean): string[] =>
      tested
        .filter(({ exp_alerts: expected }) => expected.length > 0 === fires)
        .map(({ alertname }) => alertname)
    expect([...new Set(names(true))].sort()).toEqual(alerts.toSorted())
    expect([...new Set(names(false))].sort()).toEqual(alerts.toSorted())
  })

  it.skipIf(promtool === null)('are valid for Prometheus (needs promtool)', () => {
    const { output, status } = run(promtool, ['check', 'rules', '--lint=all', '--lint-fatal', file])
    expect(output).toContain(`SUCCESS: ${alerts.length} rules found`)
    expect(status).toBe(0)
  })

  it.skipIf(promtool === null)('fire when they should, and only then (needs promtool)', () => {
    const { output, status } = run(promtool, ['test', 'rules', cases])
    expect(output).toContain('SUCCESS')
    expect(status, output).toBe(0)
  })

  it.skipIf(helm === null)('are the PrometheusRule of the chart (needs helm)', () => {
    const on = ['--set', 'prometheusRule.enabled=true']
    const { groups } = only(render(...on), 'PrometheusRule').spec as unknown as Rules
    expect(groups).toEqual(rules.groups)
    const few = render(...on, '--set', 'prometheusRule.backups=false')
    const names = (only(few, 'PrometheusRule').spec as unknown as Rules).groups
    expect(names.map(({ name }) => name)).toEqual(['tandem'])
    expect(render().some(({ kind }) => kind === 'PrometheusRule')).toBe(false)
  })
})
