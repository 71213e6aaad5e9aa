import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    // For the worker processes that the product starts, which inherit it: they run from source,
    // outside of vitest's own loader.
    execArgv: ['--import', new URL('./test/support/run-source.mjs', import.meta.url).href],
    maxWorkers: 2,
    testTimeout: 120_000,
    hookTimeout: 180_000,
  },
})
