/** `watch`, `run` and `logs -f` over holds, and over a robot or an endpoint that ends and comes back. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { SCALE, eventually as within } from '../../../e2e/eventually.ts'
import { childrenOf } from '../../../e2e/robot.ts'
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
  const timing = { ...PATIENT, trialMs: 60 }
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

/** The endpoint of the simulated robot: a grandchild of `medulla sim`. */
function endpointPid(): number | undefined {
  const all = childrenOf(sim.pid ?? 0).flatMap(({ pid, command }) => [{ pid, command }, ...childrenOf(pid)])
  return all.find(({ command }) => command.includes('endpoint/main.js'))?.pid
}

test(
  'G8: run, logs -f and status --watch go on after an endpoint that was killed; Ctrl-C of run still stops the program',
  SLOW,
  async () => {
    mkdirSync(join(laptop.dir, 'clock'))
    const ticks = `import { robot } from 'medulla'
robot({ led: 'output' }, ({ led, every, log }) => {
  let n = 0
  every(20, () => {
    led.write(!led.value)
    log(\`tick \${++n}.\`)
  })
})
`
    writeFileSync(join(laptop.dir, 'clock/program.ts'), ticks)
    const run = follow('run', 'clock')
    await eventually(() => run.text().includes('tick 5.'))
    const logs = follow('logs', '-f', '-n', '0')
    const status = follow('status', '--watch')
    await eventually(() => /tick \d+\./.test(logs.text()) && status.text().includes('main: running clock'))
    for (let i = 0; i < 3; i++) {
      const pid = await eventually(endpointPid)
      process.kill(pid, 'SIGKILL')
      await eventually(() => ![undefined, pid].includes(endpointPid()))
      const seen = [run, logs].map(({ text }) => text().split(/tick \d+\./).length)
      await eventually(() =>
        [run, logs].every(({ text }, n) => text().split(/tick \d+\./).length > (seen[n] ?? 0) + 20),
      )
    }
    await eventually(() => status.text().includes('the robot answers again'))
    for (const { text } of [run, logs]) {
      const numbers = [...text().matchAll(/tick (\d+)\./g)].map(([, n]) => Number(n))
      expect(numbers).toEqual(numbers.map((_, index) => (numbers[0] ?? 0) + index))
      expect(text()).toMatch(/^sim answers again$/m)
    }
    // while the next endpoint starts
    process.kill((await eventually(endpointPid)) ?? 0, 'SIGKILL')
    run.child.kill('SIGINT')
    expect(await run.child.ended).toMatchObject({ status: 0 })
    expect(run.text()).toContain('stopped: slot main is stopped')
    for (const { child } of [logs, status]) {
      child.kill('SIGINT')
      expect(await child.ended).toMatchObject({ status: 0 })
    }
  },
)
