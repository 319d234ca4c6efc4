/** Packages from npm that programs use, each bundled, described and run: the list that the docs give. */
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { simulate } from 'medulla/test'
import { beforeAll, expect, onTestFinished, test } from 'vitest'
import { buildProgram } from '../../deploy/laptop/build.ts'
import { installedPackages } from './install.ts'
import { USES } from './programs.ts'

const file = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const library = { sdk: file('runtime/sdk/index.ts'), drivers: file('drivers/index.ts') }
const board = { model: 'sim', handles: { led: { kind: 'output', line: 17 } } }
const { dependencies } = JSON.parse(readFileSync(file('test/packages/package.json'), 'utf8')) as {
  dependencies: Record<string, string>
}

let packages: string
beforeAll(() => {
  packages = installedPackages()
}, 600_000)

test('every package of the list is tried, at one version, and the docs name it', () => {
  // what a dependency of another is for
  const tried = Object.keys(dependencies).filter((name) => name !== 'serialport' && name !== 'sds011-wrapper')
  expect(Object.keys(USES).sort()).toEqual(tried.sort())
  expect(tried.length).toBeGreaterThanOrEqual(30)
  for (const version of Object.values(dependencies)) expect(version).toMatch(/^\d+\.\d+\.\d+$/)
  const docs = readFileSync(file('robots/README.md'), 'utf8')
  expect(tried.filter((name) => !docs.includes(name))).toEqual([])
})

test.each(Object.entries(USES))(
  '%s is built, described and run',
  { tags: ['slow'] },
  async (_name, { imports, body, expected }) => {
    const folder = mkdtempSync(join(tmpdir(), 'medulla-npm-'))
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
    symlinkSync(join(packages, 'node_modules'), join(folder, 'node_modules'))
    const program = join(folder, 'program.mjs')
    writeFileSync(
      program,
      `import { robot } from 'medulla'
${imports}
const used = (async () => { ${body} })()
used.catch(() => {})
robot({ led: 'output' }, ({ led, every, log }) => {
  every(50, () => led.write(!led.value))
  used.then((text) => log(\`got \${text}\`), (error) => log(\`failed: \${error.stack}\`))
})
`,
    )
    const { manifest } = await buildProgram(program, library)
    expect(manifest).toMatchObject({ needs: { led: 'output' }, ratesMs: [50] })
    const lines: string[] = []
    const sim = await simulate(program, { board, onLog: ({ text }) => lines.push(text) })
    for (let tries = 0; tries < 20 && !lines.some((line) => /^(?:got|failed)/.test(line)); tries++)
      await sim.run('100ms')
    await sim.stop()
    const said = lines.find((line) => /^(?:got|failed)/.test(line)) ?? lines.join('\n')
    if (expected instanceof RegExp) expect(said).toMatch(expected)
    else expect(said).toBe(`got ${expected}`)
  },
)
