import { defineConfig } from 'vitest/config'
import { timeScale } from '../deploy/shared/timescale.ts'

/** How much slower this machine is than the times of the tests allow for (test/e2e/eventually.ts). */
const SCALE = timeScale()

const root = new URL('..', import.meta.url).pathname
/** The robots import by name, and are packages of their own. */
const alias = [
  { find: /^medulla$/, replacement: `${root}runtime/sdk/index.ts` },
  { find: /^medulla\/drivers$/, replacement: `${root}drivers/index.ts` },
  { find: /^medulla\/test$/, replacement: `${root}runtime/testkit/index.ts` },
]

export default defineConfig({
  root,
  resolve: { conditions: ['source', 'node', 'default'], alias },
  ssr: { resolve: { conditions: ['source', 'node', 'default'] } },
  test: {
    include: ['test/**/*.test.ts', 'robots/**/*.test.ts'],
    exclude: ['dist/**', 'node_modules/**'],
    tags: [{ name: 'slow', description: 'takes seconds: left out of `npm run check`' }],
    // these end a test that hangs; none of them decides between right and wrong on a busy machine
    testTimeout: 180_000 * SCALE,
    hookTimeout: 180_000 * SCALE,
    expect: { poll: { timeout: 30_000 * SCALE, interval: 5 } },
    pool: 'forks',
    maxWorkers: 3,
  },
})
