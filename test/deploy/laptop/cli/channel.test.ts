/** `medulla channel` against a simulated robot. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { EXIT } from '../../../../deploy/laptop/cli/exit.ts'
import { SCALE, eventually as within } from '../../../e2e/eventually.ts'
import { childrenOf } from '../../../e2e/robot.ts'
import { ROOT } from '../../../project/tree.ts'
import { CLI, Laptop, PATIENT, type Running } from './medulla.ts'

const SLOW = { tags: ['slow'], timeout: 600_000 * SCALE }
const ECHOES = join(ROOT, 'test/programs/echoes.ts')
/** Each command is a separate process, on a machine that may be busy. */
const eventually = <T>(probe: () => T | false | null | undefined | Promise<T | false | null | undefined>) =>
  within(probe, 120_000 * SCALE)

let laptop: Laptop
let sim: Running

beforeAll(async () => {
  laptop = new Laptop()
  const board = join(laptop.dir, 'board.json')
  const handles = { led: { kind: 'output', line: 'GPIO17' } }
  writeFileSync(board, JSON.stringify({ model: 'sim', handles, timing: { ...PATIENT, trialMs: 60 } }))
  sim = laptop.start(['sim', '--json', '--port', '0', '--board', board])
  await new Promise<void>((resolve, reject) => {
    sim.stdout?.once('data', () => resolve())
    sim.ended.then(({ stderr }) => reject(new Error(stderr)), reject)
  })
  expect(await laptop.run('push', ECHOES)).toMatchObject({ status: 0 })
}, 120_000 * SCALE)
afterAll(() => laptop.close())

/** Runs `medulla channel` with these lines on its stdin. */
const piped = (input: string, ...args: string[]) => laptop.start(['channel', ...args], {}, input).ended

/** A command that goes on, with its output so far. */
function follow(...args: string[]) {
  const child = laptop.start(['channel', ...args])
  const said = { stdout: '', stderr: '' }
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream]?.on('data', (more: string) => {
      said[stream] += more
    })
  }
  return { child, said }
}

test('piped lines are sent, JSON as its value and others as text; the command ends when all were taken', async () => {
  const { status, stdout, stderr } = await piped('{"kp": 1.5}\nplain text\n7', 'tune')
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  const answers = stdout.trimEnd().split('\n')
  expect(answers.map((line) => (JSON.parse(line) as { heard: unknown }).heard)).toEqual([{ kp: 1.5 }, 'plain text', 7])
})

test('--json prints one event for each message', async () => {
  const { status, stdout } = await piped('one\n', 'tune', '--json')
  expect(status).toBe(0)
  const events = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as object)
  expect(events).toMatchObject([
    { event: 'open', channel: 'tune', slot: 'main' },
    { event: 'message', channel: 'tune', message: { heard: 'one', bytes: false } },
  ])
})

test('a channel that the program does not have is refused with those that it has', async () => {
  expect(await piped('', 'tun')).toEqual({
    status: EXIT.refused,
    stdout: '',
    stderr:
      'medulla: error: the program in slot main has no channel tun, but tune, go, count\nmedulla: hint: medulla channel tune\n',
  })
  const { status, events } = await laptop.json('channel', 'tun')
  expect({ status, events }).toMatchObject({ status: EXIT.refused, events: [{ error: { code: 'not-found' } }] })
  expect(await piped('', 'Tune')).toMatchObject({
    status: EXIT.usage,
    stderr: expect.stringMatching(/^medulla: error: expected the name of a channel, like tune, got "Tune"\n/),
  })
  expect(await piped('', 'tune', '--slot', 'arm')).toMatchObject({
    status: EXIT.refused,
    stderr: expect.stringMatching(/^medulla: error: .*\nmedulla: hint: medulla /),
  })
})

test('a message of more than 1 MiB is refused before it is sent', async () => {
  const { status, stderr } = await piped('x'.repeat(2 ** 20), 'tune')
  expect(status).toBe(EXIT.refused)
  expect(stderr).toMatch(/^medulla: error: a message has at most 1048576 bytes, got 1048578\n/)
})

test('when the program crashes at a message, the command says that it may not have taken it', SLOW, async () => {
  const { status, stdout, stderr } = await piped('die\n', 'tune')
  expect({ status, stdout }).toEqual({ status: EXIT.undone, stdout: '' })
  expect(stderr).toContain('tune: the program ended; it may not have taken 1 message; the next one has the channel\n')
  expect(stderr).toMatch(
    /^medulla: error: the program ended, and may not have taken 1 message\nmedulla: hint: medulla logs\n$/m,
  )
})

/** The endpoint of the simulated robot: a grandchild of `medulla sim`. */
function endpointPid(): number | undefined {
  const all = childrenOf(sim.pid ?? 0).flatMap(({ pid, command }) => [{ pid, command }, ...childrenOf(pid)])
  return all.find(({ command }) => command.includes('endpoint/main.js'))?.pid
}

test('-f goes on after a swap, an endpoint that was killed and a restart, and says so', SLOW, async () => {
  const { child, said } = follow('count', '-f')
  const numbers = () => said.stdout.split('\n').slice(0, -1).map(Number)
  const more = async () => {
    const { length } = numbers()
    await eventually(() => numbers().length > length + 20)
  }
  await more()
  expect(await laptop.run('push', ECHOES)).toMatchObject({ status: 0 })
  await eventually(() => /^count: the channel goes on with \S+ \S+$/m.test(said.stderr))
  await more()
  const pid = await eventually(endpointPid)
  process.kill(pid, 'SIGKILL')
  await eventually(() => ![undefined, pid].includes(endpointPid()))
  await more()
  await eventually(() => said.stderr.match(/goes on/g)?.length === 2)
  // each number once and in order, over both
  expect(numbers()).toEqual(numbers().map((_, at) => (numbers()[0] ?? 0) + at))
  expect(await laptop.run('stop')).toMatchObject({ status: 0 })
  await eventually(() => /^count: slot main runs no program; waiting for one that has it$/m.test(said.stderr))
  expect(await laptop.run('start')).toMatchObject({ status: 0 })
  await eventually(() => /^count: the program ended; the next one has the channel$/m.test(said.stderr))
  await more()
  child.kill('SIGINT')
  expect(await child.ended).toMatchObject({ status: 0 })
})

test('lines that were typed are sent one by one; Ctrl-D ends the command', SLOW, async () => {
  const terminal = laptop.inTerminal(`${process.execPath} ${CLI} channel tune; echo "exit $?"`)
  await eventually(() => terminal.text().includes('tune is open: each line that you type is a message'))
  terminal.type('first\n')
  await eventually(() => terminal.text().includes('{"heard":"first"'))
  terminal.type('second\n')
  await eventually(() => terminal.text().includes('{"heard":"second"'))
  terminal.type('\x04')
  await terminal.ended
  expect(terminal.text()).toMatch(/exit 0\s*$/)
})

test(
  'HANDOVER 3.9: texts are made harmless; Ctrl-C says how many messages the program has not taken',
  SLOW,
  async () => {
    const deaf = join(laptop.dir, 'deaf')
    mkdirSync(deaf)
    writeFileSync(
      join(deaf, 'program.ts'),
      `import { robot } from 'medulla'
robot({ led: 'output' }, ({ led, every, channel }) => {
  const deaf = channel('deaf')
  let said = false
  every(20, () => {
    led.write(!led.value)
    said ||= deaf.send('\\x1b[2J\\x1b[31mforged\\nmedulla: error: forged')
  })
})
`,
    )
    expect(await laptop.run('push', deaf)).toMatchObject({ status: 0 })
    const waits = laptop.start(['channel', 'deaf'], {}, 'nobody listens\n')
    let stdout = ''
    waits.stdout?.on('data', (text: string) => {
      stdout += text
    })
    // a program's text moves no cursor, has no colour, and begins no line of the command line's own
    await eventually(() => stdout === '\ufffd[2J\ufffd[31mforged\n  medulla: error: forged\n')
    waits.kill('SIGINT')
    expect(await waits.ended).toMatchObject({
      status: EXIT.interrupted,
      stderr: expect.stringMatching(/^medulla: error: interrupted: the program has not taken 1 message\n/),
    })
  },
)
