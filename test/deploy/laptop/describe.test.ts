/** What an author is told whose program says something wrong to robot(): the line, and the word that was meant. */
import { spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { buildProgram } from '../../../deploy/laptop/build.ts'
import { Describer } from '../../../deploy/laptop/describe.ts'
import { SCALE } from '../../e2e/eventually.ts'
import { refusal, tempFolder } from '../../fixtures/tools.ts'

const sdk = fileURLToPath(new URL('../../../runtime/sdk/index.ts', import.meta.url))
const drivers = fileURLToPath(new URL('../../../drivers/index.ts', import.meta.url))

async function failure(lines: readonly string[]): Promise<{ message: string; hint: string | undefined }> {
  const folder = join(tempFolder(), 'rover')
  mkdirSync(folder)
  writeFileSync(join(folder, 'program.ts'), ["import { robot } from 'medulla'", ...lines, ''].join('\n'))
  const { code, message, hint } = await refusal(() => buildProgram(folder, { sdk, drivers }))
  expect(code).toBe('build-failed')
  return { message, hint }
}

test.each([
  [['robot({', "  neds: { led: 'output' },", '  run() {},', '} as never)'], "program.ts:3:3: robot() has no 'neds'"],
  [
    ['robot({', '  needs: {', "    led: 'outptu',", '  },', '  run() {},', '} as never)'],
    'program.ts:4:11: led: there',
  ],
  [
    ['robot({ needs: {}, params: { kp:', "  'fast' }, run() {} } as never)"],
    'program.ts:2:30: params.kp: a text needs',
  ],
  [['const needs = { run: 1 }', "robot({ led: 'output' } as never)"], 'program.ts:3:1: run is missing'],
  [["robot({ led: 'output' }, ({ led, lde, every }: never) => {", '})'], "program.ts:2:34: run() is given no 'lde'"],
  [
    ['robot({', "  needs: {}, config: ['TOKEN'],", '  run: ({ config }: never) => (config as never)["TOKNE"],', '})'],
    "config has no 'TOKNE'; did you mean 'TOKEN'?",
  ],
  [['robot({', "  needs: {}, config: ['token'], run() {}", '})'], 'program.ts:3:14: config: a name is A-Z'],
  [['const { run } = { run() {} }', 'robot({ needs: {}, state: {}, run } as never)'], 'program.ts:3:1: state.version'],
])('%j', async (lines, says) => {
  expect((await failure(lines)).message).toContain(says)
})

test('a name that run is not given suggests the handle', async () => {
  const { message } = await failure(["robot({ lamp: 'output' }, ({ lmap }: never) => {", '})'])
  expect(message).toContain("run() is given no 'lmap'; did you mean 'lamp'?")
})

test('an endless loop in run is said of run, one at the top level of loading', async () => {
  const inRun = failure(["robot({ led: 'output' }, () => {", '  for (;;) {}', '})'])
  const loading = failure(['for (;;) {}'])
  expect(await inRun).toMatchObject({
    message: 'run did not return within 5 s',
    hint: expect.stringContaining('every(ms'),
  })
  expect((await loading).message).toBe('the program did not finish loading within 5 s')
  const exits = await failure(['process.exit(3)'])
  expect(exits.message).toBe('the program ended while loading with exit code 3')
  const crash = await failure(['process.abort()'])
  expect(crash.message).toContain('the program ended while loading by SIGABRT')
})

test('an error is told with its cause and its place', async () => {
  const { message } = await failure([
    'const look = (): never => {',
    "  throw new TypeError('the camera is not there', { cause: new Error('ENOENT') })",
    '}',
    'robot({ led: look() }, () => {})',
  ])
  expect(message).toBe(
    'the program throws while loading: TypeError: the camera is not there (cause: ENOENT) at program.ts:3:9',
  )
})

function block(ms: number): void {
  for (const end = performance.now() + ms; performance.now() < end; );
}

test('a process that is busy when the description comes reads it, although the child has ended by then', async () => {
  const code = Buffer.from(`
const end = Date.now() + 500
while (Date.now() < end);
globalThis[Symbol.for('medulla.host')].describe({ works: true })`)
  const of = { sdk, root: tempFolder(), map: () => null }
  // The first one bundles the gate, for both.
  await new Describer().describe({ code, files: [] }, of)
  const description = new Describer().describe({ code, files: [] }, of)
  await new Promise((resolve) => setImmediate(resolve))
  // Node hears of the end of both children in the turn in which it reads the helper's line, before it reads the description.
  const helper = spawn('echo', ['x'], { stdio: ['ignore', 'pipe', 'ignore'] })
  helper.stdout.on('data', () => block(3000 * SCALE))
  helper.on('exit', () => setImmediate(() => block(200)))
  block(200)
  expect(await description).toEqual({ works: true })
})
