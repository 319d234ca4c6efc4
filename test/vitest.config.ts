import { defineConfig } from 'vitest/config'

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
    testTimeout: 20_000,
    hookTimeout: 30_000,
    pool: 'forks',
    maxWorkers: 2,
  },
})
