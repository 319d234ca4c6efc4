import { defineConfig } from 'vitest/config'
import { timeScale } from '../../deploy/shared/timescale.ts'

const SCALE = timeScale()

/** Config of tests inside the rig (rig.mjs): one worker for all files, because they share lines and chips. */
export default defineConfig({
  root: new URL('../..', import.meta.url).pathname,
  resolve: { conditions: ['source', 'node', 'default'] },
  ssr: { resolve: { conditions: ['source', 'node', 'default'] } },
  test: {
    include: ['test/kernel/**/*.rig.ts'],
    setupFiles: ['test/kernel/hold.ts'],
    testTimeout: 60_000 * SCALE,
    hookTimeout: 60_000 * SCALE,
    expect: { poll: { timeout: 15_000 * SCALE } },
    pool: 'forks',
    // with one processor V8's background threads would only compete with the tests
    execArgv: ['--single-threaded'],
    maxWorkers: 1,
    fileParallelism: false,
    isolate: false,
  },
})
