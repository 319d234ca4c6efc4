/** A builder signs what a rebuild gave, and a robot that asks for builders takes the program then. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { Laptop } from './medulla.ts'

test('Y11: V15: BUNDLE 17.2: a program is refused until a builder has rebuilt and signed it', async () => {
  const laptop = new Laptop()
  onTestFinished(() => laptop.close())
  await laptop.run('keygen')
  const [type, bytes] = readFileSync(join(laptop.dir, 'config/id_ed25519.pub'), 'utf8').split(' ')
  const handles = { led: { kind: 'output', line: 'GPIO17', safe: 0 } }
  const requireReproduced = { count: 1, builders: [`${type} ${bytes}`] }
  await laptop.sim({ model: 'sim', handles, requireReproduced, timing: { trialMs: 60 } })
  const folder = join(laptop.dir, 'plain')
  const program = (more: string) => {
    const source = `import { robot } from 'medulla'\nrobot({ led: 'output' }, ({ every }) => void every(10, () => { ${more} }))\n`
    writeFileSync(join(folder, 'program.ts'), source)
  }
  mkdirSync(folder)
  writeFileSync(join(folder, 'package.json'), '{"name":"plain","version":"1.0.0"}')
  program('')
  const { status, stderr } = await laptop.run('push', 'plain', '--types', 'off')
  expect(status).toBe(3)
  expect(stderr).toContain('plain 1.0.0 is signed by 0 of the 1 builders that this robot asks for')
  expect(stderr).toContain('hint: on the computer of each builder: medulla rebuild')

  expect((await laptop.run('build', 'plain', '-o', 'plain.medulla')).status).toBe(0)
  const sign = ['rebuild', 'plain.medulla', '--source', 'plain', '--sign', 'plain.json']
  // another source gives other files: nothing is signed
  program('void 7')
  expect((await laptop.run(...sign)).status).toBe(3)
  expect(existsSync(join(laptop.dir, 'plain.json'))).toBe(false)
  program('')
  const signed = await laptop.run(...sign)
  expect(signed.status, signed.stderr).toBe(0)
  expect(signed.stdout).toMatch(/\nplain\.json: signed by SHA256:\S+\n$/)

  const pushed = await laptop.run('push', 'plain.medulla', '--builds', 'plain.json')
  expect(pushed.status, pushed.stdout + pushed.stderr).toBe(0)
  writeFileSync(join(laptop.dir, 'bad.json'), '{"statement":"x","sig":"AAAA"}')
  expect((await laptop.run('push', 'plain.medulla', '--builds', 'bad.json')).stderr).toContain('signature')
})
