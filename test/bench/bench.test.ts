import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { BenchSkipped } from '../../bench/bench.js'
import { benches } from '../../bench/benches.js'
import { page, writtenPage } from '../../bench/page.js'
import { keptResult } from '../../bench/results.js'
import { packageFolder } from '../../src/config.js'

describe('docs/benchmarks.md', () => {
  it('matches the kept results; npm run bench writes it', () => {
    expect(existsSync(page) ? readFileSync(page, 'utf8') : '').toBe(
      benches.some(({ name }) => keptResult(name)) ? writtenPage() : '',
    )
  })

  it('shows only images that exist', () => {
    const shown = [...writtenPage().matchAll(/\]\((benchmarks\/[^)]+)\)/g)].map(([, path = '']) =>
      join(packageFolder, 'docs', path),
    )
    expect(shown.filter((path) => !existsSync(path))).toEqual([])
  })

  for (const bench of benches) {
    it(
      `can be measured again by the benchmark ${bench.name}`,
      { timeout: 300_000 },
      async ({ skip }) => {
        const figures = await bench.run('smoke').catch((error: unknown) => {
          if (error instanceof BenchSkipped) return skip(error.message)
          throw error
        })
        expect(bench.page(JSON.parse(JSON.stringify(figures)))).toMatch(/^\|/m)
      },
    )
  }
})
