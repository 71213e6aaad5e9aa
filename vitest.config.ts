import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    // Worker processes of the service inherit this: they run from source, without vitest's loader.
    execArgv: ['--import', new URL('./test/support/run-source.mjs', import.meta.url).href],
    maxWorkers: 2,
    // Slow tests set a limit of their own, with vi.setConfig or an option.
    testTimeout: 10_000,
    hookTimeout: 180_000,
  },
})
