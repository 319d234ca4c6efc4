/** `watch` and `logs -f` over holds and over a robot that ends and comes back at another address. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { SCALE, eventually as within } from '../e2e/eventually.ts'
import { Laptop, PATIENT, type Running } from './medulla.ts'

const SLOW = { tags: ['slow'], timeout: 600_000 * SCALE }
const HANDLES = { led: { kind: 'output', line: 'GPIO17' }, button: { kind: 'input', line: 'GPIO23', pull: 'down' } }
/** Each command is a separate process, on a machine that may be busy. */
const eventually = <T>(probe: () => T | false | null | undefined | Promise<T | false | null | undefined>) =>
  within(probe, 120_000 * SCALE)

let laptop: Laptop
let sim: Running

async function startSim(...more: string[]): Promise<number> {
  sim = laptop.start(['sim', '--json', ...more])
  const line = await new Promise<string>((resolve, reject) => {
    sim.stdout?.once('data', resolve)
    sim.ended.then(({ stderr }) => reject(new Error(stderr)), reject)
  })
  return (JSON.parse(line) as { port: number }).port
}

/** A program that holds while the button is pressed. */
const program = (says: string): string => `import { robot } from 'medulla'
robot({ led: 'output', button: 'input' }, ({ led, button, hold, every, log }) => {
  log('${says}')
  let release = null as null | (() => void)
  every(20, () => {
    led.write(!led.value)
    if (button.read() === 1) release ??= hold('the button is pressed')
    else if (release !== null) {
      release()
      release = null
    }
  })
})
`

/** The output of a command so far. */
function follow(...args: string[]) {
  const child = laptop.start(args)
  let text = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (more: string) => {
      text += more
    })
  }
  return { child, text: () => text }
}

beforeAll(async () => {
  laptop = new Laptop()
  const board = join(laptop.dir, 'board.json')
  // a short yieldMs, so that a hold soon calls a push off
  const timing = { ...PATIENT, trialMs: 60, yieldMs: 200 }
  writeFileSync(board, JSON.stringify({ model: 'sim', handles: HANDLES, timing }))
  await startSim('--port', '0', '--board', board)
  mkdirSync(join(laptop.dir, 'lamp'))
  writeFileSync(join(laptop.dir, 'lamp/program.ts'), program('version one'))
})
afterAll(() => laptop.close())

test('watch pushes a save made during a hold when the hold ends, and says what it waits for', SLOW, async () => {
  const watch = follow('watch', 'lamp')
  await eventually(() => /^start: .*committed/m.test(watch.text()))
  expect(await laptop.run('poke', 'button', '1')).toMatchObject({ status: 0 })
  writeFileSync(join(laptop.dir, 'lamp/program.ts'), program('version two'))
  await eventually(() => /^lamp\/program\.ts: waits, then pushes again: .*"the button is pressed"/m.test(watch.text()))
  // a newer save replaces the waiting one
  writeFileSync(join(laptop.dir, 'lamp/program.ts'), program('version three'))
  await laptop.run('poke', 'button', 'release')
  await eventually(() => /^lamp\/program\.ts: build .*committed/m.test(watch.text()))
  await eventually(() => watch.text().includes('version three'))
  expect(watch.text()).not.toContain('called-off')
  watch.child.kill('SIGINT')
  expect(await watch.child.ended).toMatchObject({ status: 0 })
})

test('watch and logs -f wait for a robot that is down, and find it at its new address', SLOW, async () => {
  const watch = follow('watch', 'lamp')
  const logs = follow('logs', '-f')
  await eventually(() => /^start: .*(?:committed|already-installed|refused)/m.test(watch.text()))
  await eventually(() => logs.text().includes('version three'))
  const was = (await laptop.json('robots')).events[0]?.address
  sim.kill('SIGTERM')
  await sim.ended
  await eventually(() =>
    [watch, logs].every(({ text }) => /^sim does not answer \(.*\); waiting for it$/m.test(text())),
  )
  writeFileSync(join(laptop.dir, 'lamp/program.ts'), program('version four'))
  const port = await startSim('--port', '0')
  expect(`127.0.0.1:${port}`).not.toBe(was)
  await eventually(() =>
    [watch, logs].every(({ text }) => text().includes(`sim answers again, at 127.0.0.1:${port}\n`)),
  )
  await eventually(() => /^lamp\/program\.ts: build .*committed/m.test(watch.text()))
  await eventually(() => logs.text().includes('version four'))
  // no log line is printed twice
  expect(logs.text().split('version four')).toHaveLength(2)
  for (const { child } of [watch, logs]) {
    child.kill('SIGINT')
    expect(await child.ended).toMatchObject({ status: 0 })
  }
})
