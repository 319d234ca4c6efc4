import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
import { buildProgram, makeBundle } from '../../../deploy/laptop/build.ts'
import { openInner } from '../../../deploy/shared/bundle/open.ts'
import { packPayload, unpackPayload } from '../../../deploy/shared/bundle/payload.ts'
import { openSealed } from '../../../deploy/shared/bundle/seal.ts'
import { newRobot, newSigner } from '../../fixtures/bundles.ts'
import { refusal, tempFolder } from '../../fixtures/tools.ts'

const sdk = fileURLToPath(new URL('fixtures/sdk.ts', import.meta.url))
const drivers = fileURLToPath(new URL('fixtures/drivers.ts', import.meta.url))
const opts = { sdk, drivers }
const BLINK = `import { robot } from 'medulla'
robot({ led: 'output' }, ({ led, every }: never) => {
  every(500, () => led.write(!led.value))
})
`

function program(files: Record<string, string>): string {
  const folder = tempFolder()
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(folder, name, '..'), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  return folder
}

async function failure(text: string, name = 'program.ts') {
  const refused = await refusal(() => buildProgram(program({ [name]: text }), opts))
  expect(refused.code).toBe('build-failed')
  return refused
}

test('P1: a program of four lines is built, and says what it needs', async () => {
  expect(BLINK.trim().split('\n').length).toBeLessThanOrEqual(5)
  const { files, manifest } = await buildProgram(join(program({ 'blinky/program.ts': BLINK }), 'blinky'), opts)
  expect(files.map((file) => file.name)).toEqual(['program.mjs', 'manifest.json', 'buildinfo.json', 'program.mjs.map'])
  expect(manifest).toMatchObject({
    program: 'blinky',
    version: '0.0.0',
    needs: { led: 'output' },
    ratesMs: [500],
    wire: 1,
  })
  expect(files[0]?.bytes.length).toBeLessThan(1000)
})

test('BUNDLE 11.2: Y11: V1: V2: two folders, two times, two time zones, two users: identical bytes', async () => {
  const dependency = {
    'package.json': '{"name":"@me/wave","version":"2.0.0","main":"program.ts","dependencies":{"tiny":"1.2.3"}}',
    'program.ts': `import { robot } from 'medulla'\nimport tiny from 'tiny'\nrobot({ led: 'output', [tiny()]: 'servo' })\n`,
    'node_modules/tiny/package.json': '{"name":"tiny","version":"1.2.3"}',
    'node_modules/tiny/index.js': `const { basename } = require('node:path')\nmodule.exports = () => basename('/x/tail')\n`,
  }
  const one = program(dependency)
  const two = join(tempFolder(), 'some', 'deeper folder')
  cpSync(one, two, { recursive: true })
  // what lies above a program's folder has no say
  writeFileSync(
    join(two, '..', 'tsconfig.json'),
    '{"compilerOptions":{"target":"es5","useDefineForClassFields":false}}',
  )
  const first = await buildProgram(one, opts)
  const [zone, home] = [process.env.TZ, process.env.HOME]
  onTestFinished(() => {
    if (zone === undefined) delete process.env.TZ
    else process.env.TZ = zone
    process.env.HOME = home
  })
  process.env.TZ = 'Pacific/Kiritimati'
  process.env.HOME = two
  process.env.NODE_OPTIONS = '--no-warnings'
  onTestFinished(() => {
    delete process.env.NODE_OPTIONS
  })
  await new Promise((resolve) => setTimeout(resolve, 1100))
  const second = await buildProgram(two, opts)
  const [a, b] = [await packPayload(first.files), await packPayload(second.files)]
  expect(a.h1).toBe(b.h1)
  expect(Buffer.compare(a.bytes, b.bytes)).toBe(0)
  const everything = first.files.map((file) => Buffer.from(file.bytes).toString()).join('')
  expect(everything).not.toContain(one)
  expect(everything).not.toContain(process.cwd())
  expect(first.manifest).toMatchObject({ program: 'wave', version: '2.0.0', needs: { led: 'output', tail: 'servo' } })
})

test('V3: BUNDLE 11.4: the build says which tools, modules and files went in', async () => {
  const folder = program({
    'program.mjs': `import { robot } from 'medulla'\nimport { drivers } from 'medulla/drivers'\nimport x from 'tiny'\nimport './lib/util.mjs'\nrobot({ led: x + drivers })\n`,
    'lib/util.mjs': 'globalThis.util = 1\n',
    'node_modules/tiny/package.json': '{"name":"tiny","version":"1.2.3","type":"module"}',
    'node_modules/tiny/index.js': `export default 'output'\n`,
  })
  const { files } = await buildProgram(join(folder, 'program.mjs'), opts)
  const info = JSON.parse(Buffer.from(files[2]?.bytes ?? []).toString())
  expect(info.tools).toEqual({ medulla: '0.1.0', esbuild: '0.28.2' })
  expect(info.modules).toMatchObject([{ name: 'tiny', version: '1.2.3' }])
  expect(info.inputs.map((input: { path: string }) => input.path)).toEqual([
    'lib/util.mjs',
    'medulla/test/deploy/laptop/fixtures/drivers.ts',
    'medulla/test/deploy/laptop/fixtures/sdk.ts',
    'program.mjs',
    'tiny@1.2.3/index.js',
  ])
  const util = createHash('sha256').update('globalThis.util = 1\n').digest('hex')
  expect(info.inputs[0].sha256).toBe(util)
})

test('the entry: package.json, then program.*, then index.ts; a file is itself', async () => {
  const named = (name: string) => `import { robot } from 'medulla'\nrobot({ ${name}: 'output' })\n`
  const needs = async (files: Record<string, string>, file = '') =>
    Object.keys((await buildProgram(join(program(files), file), opts)).manifest.needs)
  const all = { 'program.ts': named('a'), 'program.mjs': named('b'), 'program.js': named('c'), 'index.ts': named('d') }
  const about = (more: object) => JSON.stringify({ name: 'x', version: '1.0.0', ...more })
  expect(
    await needs({
      ...all,
      'src/e.ts': named('e'),
      'package.json': about({ main: 'index.ts', medulla: { entry: './src/e.ts' } }),
    }),
  ).toEqual(['e'])
  expect(await needs({ ...all, 'package.json': about({ main: 'index.ts' }) })).toEqual(['d'])
  expect(await needs({ ...all, 'package.json': about({}) })).toEqual(['a'])
  expect(await needs({ 'index.ts': named('d') })).toEqual(['d'])
  expect(await needs(all, 'program.js')).toEqual(['c'])
  const missing = await refusal(() => buildProgram(program({ 'README.md': '' }), opts))
  expect(missing.message).toContain('expected program.ts, program.mjs')
  expect(missing.hint).toContain('medulla new')
  expect((await refusal(() => buildProgram(program({ 'package.json': '{' }), opts))).message).toContain('package.json')
  expect((await refusal(() => buildProgram(join(tmpdir(), 'not-there'), opts))).code).toBe('build-failed')
  const odd = await refusal(() => buildProgram(program({ ...all, 'package.json': '{"name":"Über"}' }), opts))
  expect(odd.message).toContain('cannot be the name of a program')
})

test('a program without a package.json is named after its folder, whatever its file is called', async () => {
  const folder = join(tempFolder(), 'My Rover (2)')
  mkdirSync(folder)
  for (const name of ['program.ts', 'other.ts']) writeFileSync(join(folder, name), BLINK)
  expect((await buildProgram(folder, opts)).manifest.program).toBe('my-rover-2')
  expect((await buildProgram(join(folder, 'other.ts'), opts)).manifest.program).toBe('my-rover-2')
  writeFileSync(join(folder, 'package.json'), '{"name":"@me/tank"}')
  expect((await buildProgram(folder, opts)).manifest.program).toBe('tank')
})

test('BUNDLE 4.4: whose state a program takes over is in its manifest, only where its author says so', async () => {
  const folder = program({ 'program.ts': BLINK })
  expect((await buildProgram(folder, opts)).manifest).not.toHaveProperty('takesStateOf')
  writeFileSync(join(folder, 'package.json'), '{"name":"tank","medulla":{"takesStateOf":"rover"}}')
  expect((await buildProgram(folder, opts)).manifest.takesStateOf).toBe('rover')
  expect((await buildProgram(folder, { ...opts, takesStateOf: 'car' })).manifest.takesStateOf).toBe('car')
  writeFileSync(join(folder, 'package.json'), '{"name":"tank","medulla":{"takesStateOf":"My Rover"}}')
  const refused = await refusal(() => buildProgram(folder, opts))
  expect(refused.message).toBe('takesStateOf: expected the name of a program, got "My Rover"')
})

test('a syntax error is shown in its place', async () => {
  const refused = await failure(`import { robot } from 'medulla'\nrobot({ led: 'output' }, ({ led } => 1)\n`)
  expect(refused.message).toContain('program.ts:2:')
  expect(refused.message).toContain("robot({ led: 'output' }")
})

test('an import that is not there, and a native addon', async () => {
  expect((await failure(`import 'not-installed'\n`)).message).toContain('Could not resolve "not-installed"')
  const folder = program({ 'program.mjs': `import './x.node'\n`, 'x.node': '' })
  expect((await refusal(() => buildProgram(folder, opts))).hint).toContain('ask for the hardware as a handle')
})

test('a program that never calls robot() is told the smallest one', async () => {
  const refused = await failure('console.log("hello")\n')
  expect(refused.message).toContain('never calls robot()')
  expect(refused.hint).toContain("robot({ led: 'output' }")
  expect((await failure(BLINK + BLINK.replace(/import.*\n/, ''))).message).toContain('calls robot() 2 times')
})

test('a program that calls robot() after an await is told so', async () => {
  const { message, hint } = await failure(`${BLINK.replace('robot({', 'setTimeout(() => robot({').trim()}, 5)\n`)
  expect(message).toBe('the program calls robot() after an await')
  expect(hint).toContain('an async run')
})

test('a program that throws while loading is shown where', async () => {
  const refused = await failure(
    `import { robot } from 'medulla'\nconst config: never = undefined\n\nrobot(config.needs)\n`,
  )
  expect(refused.message).toContain("Cannot read properties of undefined (reading 'needs')")
  expect(refused.message).toContain('program.ts:4:')
  expect(refused.message).not.toContain(tmpdir())
})

test('a rejection that nobody waits for is told with its place, not as the last line of Node', async () => {
  const refused = await failure(
    `import { robot } from 'medulla'\nasync function connect(): Promise<void> {\n  throw new Error('the broker did not answer')\n}\nconnect()\nawait new Promise((resolve) => setTimeout(resolve, 1))\nrobot({ led: 'output' })\n`,
  )
  expect(refused.message).toBe('the program throws while loading: the broker did not answer at program.ts:3:9')
})

test('a place is named in the file where it is, also of an npm package and behind a line for CommonJS', async () => {
  const folder = program({
    'program.ts': `import { robot } from 'medulla'\nimport { speed } from './lib/speed.ts'\nrobot({ led: speed() })\n`,
    'lib/speed.ts': `import tiny from 'tiny'\n\nexport const speed = (): string => {\n  return tiny(undefined)\n}\n`,
    'node_modules/tiny/package.json': '{"name":"tiny","version":"1.2.3"}',
    'node_modules/tiny/index.js': `const { basename } = require('path')\nmodule.exports = (path) =>\n  basename(path.name)\n`,
  })
  const refused = await refusal(() => buildProgram(folder, opts))
  expect(refused.message).toContain("(reading 'name') at lib/speed.ts:4:10")
})

test('BUNDLE 11.9: the source map holds no text and no path of the machine, and one word for the library', async () => {
  const folder = program({
    'program.ts': `import { robot } from 'medulla'\nimport x from 'tiny'\nrobot({ led: x })\n`,
    'node_modules/tiny/package.json': '{"name":"tiny","version":"1.2.3","type":"module"}',
    'node_modules/tiny/index.js': `export default 'output'\n`,
  })
  const { files } = await buildProgram(folder, opts)
  const map = JSON.parse(Buffer.from(files.find(({ name }) => name === 'program.mjs.map')?.bytes ?? []).toString())
  expect(Object.keys(map)).toEqual(['version', 'sources', 'names', 'mappings'])
  expect(map.sources.sort()).toEqual(['medulla', 'node_modules/tiny/index.js', 'program.ts'])
})

test('needs that are no needs, and a program that ends itself', async () => {
  const odd = await failure(`import { robot } from 'medulla'\nrobot({ led: 5 as never })\n`)
  expect(odd.message).toContain("gives 'led' no kind")
  const ended = await failure(`import { robot } from 'medulla'\nrobot({})\nconsole.log('bye')\nprocess.exit(0)\n`)
  expect(ended.message).toContain('ended while loading with exit code 0: bye')
})

test('BUNDLE 11.3: a program that never finishes loading is given 5 s, and no variable of the user', async () => {
  process.env.SECRET_OF_MINE = 'hunter2'
  onTestFinished(() => {
    delete process.env.SECRET_OF_MINE
  })
  const [before, temp] = [process.env.TMPDIR, tempFolder()]
  process.env.TMPDIR = temp
  onTestFinished(() => {
    if (before === undefined) delete process.env.TMPDIR
    else process.env.TMPDIR = before
  })
  const spins = failure('for (;;) {}\n')
  const waits = failure('await new Promise((resolve) => setTimeout(resolve, 60_000))\n')
  const env = failure('throw new Error(Object.keys(process.env).sort().join())\n')
  const large = failure(`import { robot } from 'medulla'\nrobot({ led: 'x'.repeat(300_000) })\n`)
  expect((await spins).message).toContain('within 5 s')
  expect((await waits).message).toContain('within 5 s')
  expect((await env).message).toContain('loading: NODE_NO_WARNINGS,TZ at program.ts:1:7')
  expect((await large).message).toContain('more than 262144 bytes')
  expect(readdirSync(temp).filter((name) => name.startsWith('medulla-build-'))).toEqual([])
})

test('HANDOVER 13.1: nothing that a program does at its top level, or in run, happens while it is built', async () => {
  const real = (path: string) => fileURLToPath(new URL(`../../../${path}`, import.meta.url))
  const product = { sdk: real('runtime/sdk/index.ts'), drivers: real('drivers/index.ts') }
  const folder = tempFolder()
  const made = (name: string) => JSON.stringify(join(folder, name))
  const inRun = `import { execFileSync, spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { robot } from 'medulla'
createServer().listen(${made('socket')})
robot({ led: 'output' }, ({ every }) => {
  spawn('touch', [${made('spawned')}])
  execFileSync('touch', [${made('executed')}])
  writeFileSync(${made('written')}, '')
  every(20, () => {})
  process.kill(process.pid)
  process.nextTick(() => { throw new Error('late') })
})
`
  const { manifest } = await buildProgram(program({ 'program.ts': inRun }), product)
  expect(manifest.ratesMs).toEqual([20])
  const start = `import { spawn } from 'node:child_process'\nspawn('touch', [${made('started')}])\n`
  const { message } = await failure(start + BLINK)
  expect(message).toMatch(/a process \(touch\): only a program that drives the hardware may .* at program\.ts:2:/)
  const waits = `import { connect } from 'node:net'\nimport { once } from 'node:events'\nawait once(connect(9), 'connect')\n`
  expect((await failure(waits + BLINK)).message).toContain('a connection (connect localhost:9) begins only when')
  expect(readdirSync(folder)).toEqual([])
})

test('what a program prints and its timers do not matter', async () => {
  const text = `${BLINK}setInterval(() => {}, 10)\nfor (let i = 0; i < 3000; i++) console.log('x'.repeat(100))\n`
  const { manifest } = await buildProgram(program({ 'program.ts': text }), opts)
  expect(manifest.needs).toEqual({ led: 'output' })
})

test('the built program is one file that runs without its folder', async () => {
  const folder = program({
    'program.mjs': `import { robot } from 'medulla'\nimport old from './old.cjs'\nrobot({ led: old })\nconsole.log('ran', old)\n`,
    'old.cjs': `const fs = require('fs')\nmodule.exports = typeof fs.readFileSync === 'function' ? 'output' : 'none'\n`,
  })
  const { files } = await buildProgram(folder, opts)
  const elsewhere = join(tempFolder(), 'program.mjs')
  writeFileSync(elsewhere, files[0]?.bytes ?? '')
  expect(spawnSync(process.execPath, [elsewhere], { encoding: 'utf8' }).stdout).toBe('ran output\n')
})

test('Y11: build and bundle give a signed, sealed file that opens to the built files', async () => {
  const built = await buildProgram(join(program({ 'blinky/program.ts': BLINK }), 'blinky'), opts)
  const [signer, robots] = [newSigner(), [await newRobot(), await newRobot()]]
  const made = await makeBundle(built.files, built.manifest, {
    signer,
    robots,
    counter: 5,
    arch: ['x64', 'arm64'],
    slot: 'main',
  })
  expect(made.release).toMatchObject({
    kind: 'program',
    program: 'blinky',
    counter: 5,
    slot: 'main',
    arch: ['arm64', 'x64'],
  })
  const opened = await openInner(await openSealed(made.bytes, robots[1]?.identity ?? ''), new Set([signer.publicKey]))
  expect(opened.digest).toBe(made.digest)
  const files = await unpackPayload(opened.payload, opened.release)
  for (const { name, bytes } of built.files) expect(Buffer.compare(files.get(name) ?? Buffer.alloc(0), bytes)).toBe(0)
  const wrong = await refusal(() =>
    makeBundle(built.files, built.manifest, { signer, robots, counter: 5, node: '^20' }),
  )
  expect(wrong.message).toContain("'node' is malformed")
})
