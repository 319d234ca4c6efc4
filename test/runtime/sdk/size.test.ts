import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { buildProgram } from '../../../deploy/laptop/build.ts'

const file = (path: string) => fileURLToPath(new URL(`../../../${path}`, import.meta.url))

// 0.3 KB of it are the calls of message channels; the channels themselves are in the loader, and in no program
test('the SDK adds at most 70.5 KB to a program', async () => {
  const { files } = await buildProgram(file('robots/template'), {
    program: 'template',
    sdk: file('runtime/sdk/index.ts'),
    drivers: file('drivers/index.ts'),
  })
  const program = files.find(({ name }) => name === 'program.mjs')
  expect(program?.bytes.length).toBeLessThan(70_500)
})
