import { defineConfig } from 'vitest/config'
import { timeScale } from '../../deploy/shared/timescale.ts'

const SCALE = timeScale()

/** For tests that run inside the rig (rig.mjs): one worker for all files, as they share its lines and chips. */
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
    // with one processor, what V8 would do beside the tests it can do between them
    execArgv: ['--single-threaded'],
    maxWorkers: 1,
    fileParallelism: false,
    isolate: false,
  },
})
