import { defineConfig } from 'vitest/config'
import { timeScale } from '../../deploy/shared/timescale.ts'

const SCALE = timeScale()

/** `npm run test:soak`: one robot, for as long as its pushes take. */
export default defineConfig({
  root: new URL('../..', import.meta.url).pathname,
  resolve: { conditions: ['source', 'node', 'default'] },
  ssr: { resolve: { conditions: ['source', 'node', 'default'] } },
  test: {
    include: ['test/soak/**/*.soak.ts'],
    testTimeout: 1_800_000 * SCALE,
    hookTimeout: 60_000 * SCALE,
    pool: 'forks',
    fileParallelism: false,
  },
})
