import { defineConfig } from 'vitest/config'

/** `npm run fuzz`: as long as its cases take. */
export default defineConfig({
  root: new URL('../..', import.meta.url).pathname,
  resolve: { conditions: ['source', 'node', 'default'] },
  ssr: { resolve: { conditions: ['source', 'node', 'default'] } },
  test: {
    include: ['test/fuzz/**/*.fuzz.ts'],
    testTimeout: 24 * 3_600_000,
    hookTimeout: 600_000,
    pool: 'forks',
    maxWorkers: 2,
  },
})
