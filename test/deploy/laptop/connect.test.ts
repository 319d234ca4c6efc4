/** `medulla/client` as an outside program has it: from the packed package, the examples of deploy/README.md and their types. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually, SCALE } from '../../e2e/eventually.ts'
import { ROOT, text } from '../../project/tree.ts'
import { Laptop } from './cli/medulla.ts'

const SLOW = { tags: ['slow'], timeout: 300_000 * SCALE }
let laptop: Laptop

const [, section = ''] = text('deploy/README.md').split('## Use it from a program\n')
const examples = [...(section.split('\n## ')[0] ?? '').matchAll(/^```js\n(.*?)^```$/gms)].map(([, code = '']) => code)
const [status = '', push = '', log = '', receipts = '', duplex = '', messages = ''] = examples

function sh(command: string, cwd: string): string {
  const { status, stdout } = spawnSync('sh', ['-c', `${command} 2>&1`], { cwd, encoding: 'utf8' })
  if (status !== 0) throw new Error(stdout)
  return stdout
}

/** Starts an example in a folder that has the package. */
function start(code: string): ChildProcess & { text: string } {
  const file = join(laptop.dir, `example-${readdirSync(laptop.dir).length}.mjs`)
  writeFileSync(file, code)
  const { PATH, MEDULLA_TIME_SCALE } = process.env
  const env = { PATH, HOME: laptop.dir, MEDULLA_CONFIG: join(laptop.dir, 'config'), ...(MEDULLA_TIME_SCALE && { MEDULLA_TIME_SCALE }) } // biome-ignore format: one object
  const child = Object.assign(spawn(process.execPath, [file], { cwd: laptop.dir, env }), { text: '' })
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (more: string) => {
      child.text += more
    })
  }
  return child
}

/** What an example that ends by itself prints. */
async function run(code: string): Promise<string> {
  const child = start(code)
  const [exit] = (await once(child, 'close')) as [number | null]
  expect(exit, child.text).toBe(0)
  return child.text
}

beforeAll(async () => {
  laptop = new Laptop()
  sh(`npm pack --ignore-scripts --pack-destination '${laptop.dir}'`, ROOT)
  const modules = join(laptop.dir, 'node_modules')
  mkdirSync(join(modules, 'medulla'), { recursive: true })
  sh(`tar -xzf medulla-*.tgz --strip-components=1 -C '${join(modules, 'medulla')}'`, laptop.dir)
  mkdirSync(join(modules, '@types'))
  symlinkSync(join(ROOT, 'node_modules/@types/node'), join(modules, '@types/node'))
  symlinkSync(join(ROOT, 'node_modules/undici-types'), join(modules, 'undici-types'))
  const sim = laptop.start(['sim', '--name', 'arm', '--port', '0', '--json'])
  const line = await new Promise<string>((resolve, reject) => {
    sim.stdout?.once('data', resolve)
    sim.ended.then(({ stderr }) => reject(new Error(stderr)), reject)
  })
  expect(JSON.parse(line)).toMatchObject({ event: 'listening' })
  const program = join(ROOT, 'robots/blink/v1')
  expect(await laptop.run('build', program, '-o', join(laptop.dir, 'blinky.medulla'))).toMatchObject({ status: 0 })
}, 300_000 * SCALE)
afterAll(() => laptop.close())

test('there are six examples, of at most five lines each', () => {
  expect(examples).toHaveLength(6)
  for (const code of examples) expect(code.trimEnd().split('\n').length).toBeLessThanOrEqual(5)
})

test('the examples of deploy/README.md work with the packed package', SLOW, async () => {
  const pushed = await run(push)
  expect(pushed).toContain("phase: 'spawn'")
  expect(pushed).toMatch(/outcome: 'committed'/)
  expect(await run(status)).toBe('arm/main: blink running\n')
  expect((await run(receipts)).trim().split('\n')).toContain('committed')
  const answer = await run(duplex)
  expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
  expect(JSON.parse(answer.slice(answer.indexOf('\r\n\r\n')))).toMatchObject({ name: 'arm', simulated: true })
  const following = start(log)
  await eventually(() => / blink /.test(following.text), 60_000 * SCALE)
  following.kill()
  const program = join(laptop.dir, 'echo')
  mkdirSync(program)
  writeFileSync(join(program, 'package.json'), JSON.stringify({ name: 'echo', version: '1.0.0', type: 'module' }))
  writeFileSync(
    join(program, 'program.ts'),
    `import { robot } from 'medulla'
robot({}, ({ channel }) => {
  const tune = channel('tune')
  tune.on('message', (message) => tune.send({ got: message }))
})
`,
  )
  expect(await laptop.run('push', program)).toMatchObject({ status: 0 })
  const talking = start(messages)
  await eventually(() => talking.text.includes('{ got: { kp: 1.5 } }'), 60_000 * SCALE)
  talking.kill()
})

test('connect() says which robot it does not know, with a code and a hint', SLOW, async () => {
  const code = `import { connect, Refusal } from 'medulla/client'
const error = await connect('leg').catch((error) => error)
console.log(error instanceof Refusal, error.code, error.message, error.hint)
`
  expect(await run(code)).toBe(
    'true unknown-robot no robot is called "leg"; known: arm medulla pair ADDRESS --name leg\n',
  )
})

test('the examples are right by the types of the packed package, and a wrong use is not', SLOW, () => {
  const folder = join(laptop.dir, 'typed')
  mkdirSync(folder)
  for (const [index, code] of examples.entries()) writeFileSync(join(folder, `example${index}.mts`), code)
  const options = { module: 'nodenext', target: 'es2023', lib: ['es2023'], types: ['node'], strict: true, noEmit: true }
  const config = { compilerOptions: { ...options, skipLibCheck: true }, include: ['*.mts'] }
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config))
  const tsc = () => {
    const args = [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', folder]
    return spawnSync(process.execPath, args, { encoding: 'utf8' })
  }
  expect(tsc()).toMatchObject({ status: 0, stdout: '' })
  writeFileSync(join(folder, 'wrong.mts'), log.replace('console.log(time, text)', 'const wrong: number = text'))
  expect(tsc().stdout).toMatch(
    /^.*wrong\.mts\(4,\d+\): error TS2322: Type 'string' is not assignable to type 'number'/m,
  )
})
