import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    // For the worker threads that the product starts: they run from source, outside of vitest's own loader.
    execArgv: ['--import', new URL('./test/support/run-source.mjs', import.meta.url).href],
    maxWorkers: 2,
    testTimeout: 120_000,
    hookTimeout: 180_000,
  },
})
