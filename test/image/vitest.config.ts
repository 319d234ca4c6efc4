import { defineConfig } from 'vitest/config'
import { timeScale } from '../../deploy/shared/timescale.ts'

const SCALE = timeScale()

/** Config of the tests of the Debian package and of the image: one file after the other, because a machine needs both cores. */
export default defineConfig({
  root: new URL('../..', import.meta.url).pathname,
  test: {
    include: ['test/image/**/*.image.ts'],
    testTimeout: 600_000 * SCALE,
    hookTimeout: 1_800_000 * SCALE,
    fileParallelism: false,
    bail: 1,
  },
})
