import { readdirSync, readFileSync } from 'node:fs'
import { build } from 'esbuild'
import { expect, test } from 'vitest'
import * as drivers from '../../../../drivers/index.ts'
import type { Input } from '../../../../drivers/program/handle.ts'
import { deliverEdge } from '../../../../drivers/program/inherit/index.ts'
import { handle } from './wires.ts'

test('each subscription gets each event and ends by itself, also two of the same function', () => {
  const { handle: input } = handle('input')
  const heard: number[] = []
  const listener = () => heard.push(1)
  const first = (input as Input).onEdge(listener)
  ;(input as Input).onEdge(listener)
  deliverEdge(input, { level: 1, ns: 1n, seqno: 1 })
  first()
  deliverEdge(input, { level: 0, ns: 2n, seqno: 2 })
  expect(heard.length).toBe(3)
})

/** As `medulla build` does it. */
async function bundled(contents: string): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: process.cwd(), loader: 'ts' },
    bundle: true,
    write: false,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    minifyWhitespace: true,
    minifySyntax: true,
  })
  return outputFiles[0]?.text ?? ''
}

test.each([
  ['a program bundles of drivers/', "export { Led } from './drivers/index.ts'", 29_000],
  ['there is in drivers/ for programs', "export * from './drivers/index.ts'", 70_000],
])('what %s is small, and has no zod and no native code in it', async (_, devices, limit) => {
  const text = await bundled(`export * from './drivers/program/inherit/index.ts'
    export * from './drivers/program/broker/index.ts'
    ${devices}`)
  expect(text.length).toBeGreaterThan(5000)
  expect(text.length).toBeLessThan(limit)
  expect(text).not.toMatch(/\bzod\b|\bkoffi\b|i2c-bus['"]/)
})

test('the bundle of a program contains only the devices that it uses', async () => {
  const all = Object.keys(drivers)
  expect(all.length).toBeGreaterThan(15)
  const sizes = await Promise.all(
    all.map(async (name) => (await bundled(`export { ${name} } from './drivers/index.ts'`)).length),
  )
  // shared files count for each device
  const together = (await bundled("export * from './drivers/index.ts'")).length
  expect(sizes.reduce((sum, size) => sum + size)).toBeLessThan(1.4 * together)
  expect(Math.max(...sizes)).toBeLessThan(9000)
  expect((await bundled("import './drivers/index.ts'")).length).toBeLessThan(10)
})

test('HANDLES 12.16: devices use no timer and no clock', () => {
  const folder = new URL('../../../../drivers/program/devices/', import.meta.url)
  const clocks = /\b(setTimeout|setInterval|Date|performance|hrtime)\b/
  const files = readdirSync(folder)
  expect(files.length).toBeGreaterThan(15)
  for (const file of files) expect(readFileSync(new URL(file, folder), 'utf8'), file).not.toMatch(clocks)
})
