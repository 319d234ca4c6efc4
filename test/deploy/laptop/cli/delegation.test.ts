/** `medulla watch` with a key that only an agent holds, as of a token: the key signs once. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { expect, onTestFinished, test } from 'vitest'
import { eventually } from '../../../e2e/eventually.ts'
import { missing } from '../../../fixtures/tools.ts'
import { Laptop } from './medulla.ts'

const noAgent = missing('ssh-keygen', 'ssh-agent', 'ssh-add')

test.skipIf(noAgent)(`G6: watch goes on without the agent once its key has signed a delegation${noAgent}`, async () => {
  const laptop = new Laptop()
  onTestFinished(() => laptop.close())
  await laptop.sim({
    model: 'sim',
    handles: { led: { kind: 'output', line: 'GPIO17', safe: 0 } },
    timing: { trialMs: 60 },
  })
  const socket = join(laptop.dir, 'agent')
  const said = execFileSync('ssh-agent', ['-s', '-a', socket], { encoding: 'utf8' })
  const pid = Number(/SSH_AGENT_PID=(\d+)/.exec(said)?.[1])
  onTestFinished(() => {
    process.kill(pid)
  })
  const env = { SSH_AUTH_SOCK: socket, SSH_ASKPASS_REQUIRE: 'never' }
  const key = join(laptop.dir, 'config/id_ed25519')
  const add = (...args: string[]) => execFileSync('ssh-add', args, { env: { ...process.env, ...env }, stdio: 'ignore' })
  add(key)
  renameSync(key, join(laptop.dir, 'elsewhere'))
  writeFileSync(join(laptop.dir, 'config/config.json'), JSON.stringify({ key: 'id_ed25519.pub' }))

  const folder = join(laptop.dir, 'lamp')
  mkdirSync(folder)
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'lamp', version: '1.0.0' }))
  const write = (says: string) =>
    writeFileSync(
      join(folder, 'program.ts'),
      `import { robot } from 'medulla'
robot({ led: 'output' }, ({ led, every, log }) => {
  log('${says}')
  every(10, () => led.write(!led.value))
})
`,
    )
  write('one')
  const events: Record<string, unknown>[] = []
  const watch = laptop.start(['watch', folder, '--types', 'off', '--json'], env)
  createInterface({ input: watch.stdout as NodeJS.ReadableStream }).on('line', (line) => events.push(JSON.parse(line)))
  const saves = () => events.filter(({ event }) => event === 'save')
  expect(await eventually(() => saves()[0])).toMatchObject({ outcome: 'committed' })
  const delegated = events.filter(({ event }) => event === 'delegated')
  expect(delegated).toEqual([{ event: 'delegated', slot: 'main', key: expect.stringMatching(/^SHA256:/), hours: 8 }])
  add('-D')
  for (const [at, says] of ['two', 'three'].entries()) {
    write(says)
    expect(await eventually(() => saves()[at + 1])).toMatchObject({ outcome: 'committed' })
  }
  watch.kill('SIGINT')
  expect((await watch.ended).status).toBe(0)
  // a push signs with the key itself, which is gone
  expect(await laptop.start(['push', folder, '--types', 'off'], env).ended).toMatchObject({ status: 3 })
  const receipts = (await laptop.json('receipts')).events.filter(({ outcome }) => outcome === 'committed')
  expect(new Set(receipts.map(({ signer }) => signer))).toEqual(new Set([delegated[0]?.key]))
})
