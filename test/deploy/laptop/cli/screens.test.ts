/** Full-screen views and their plain forms, with a robot that ends and comes back. */
import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from '../../../e2e/eventually.ts'
import { ROOT } from '../../../project/tree.ts'
import { CLI, Laptop, type Running } from './medulla.ts'

/** Long, as a robot is started three times. */
const SLOW = { tags: ['slow'] }
const BLINK = join(ROOT, 'robots/blink')
const [ENTER, LEAVE] = ['\x1b[?1049h\x1b[?25l', '\x1b[?25h\x1b[?1049l']
let laptop: Laptop
let sim: Running
let port = 0
/** pid of the robot in the background */
let kept = 0

async function startSim(): Promise<void> {
  sim = laptop.start(['sim', '--port', String(port), '--board', join(laptop.dir, 'board.json'), '--json'])
  const line = await new Promise<string>((resolve, reject) => {
    sim.stdout?.once('data', resolve)
    sim.ended.then(({ stderr }) => reject(new Error(stderr)), reject)
  })
  port = (JSON.parse(line) as { port: number }).port
}

/** Starts a robot in the background, and waits until it listens. */
async function keepSim(): Promise<void> {
  const { events } = await laptop.json('sim', '--port', String(port), '--keep')
  expect(events).toMatchObject([{ event: 'listening', name: 'sim', port, pid: expect.any(Number) }])
  kept = events[0]?.pid as number
}

async function stopSim(): Promise<void> {
  sim.kill('SIGTERM')
  await sim.ended
}

beforeAll(async () => {
  laptop = new Laptop()
  copyFileSync(join(BLINK, 'board.json'), join(laptop.dir, 'board.json'))
  await laptop.run('keygen')
  await startSim()
  expect(await laptop.run('push', join(BLINK, 'v1'))).toMatchObject({ status: 0 })
})
afterAll(async () => {
  if (kept !== 0) process.kill(kept)
  await laptop.close()
})

/** The output of a command so far, and its events with --json. */
function follow(...args: string[]) {
  const child = laptop.start(args)
  let text = ''
  child.stdout?.on('data', (more: string) => {
    text += more
  })
  const events = () => text.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []))
  return { child, text: () => text, events }
}

test('pinout of a robot shows handles and values at their pins, also as JSON', async () => {
  const { status, stdout, stderr } = await laptop.run('pinout')
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  const lines = stdout.split('\n')
  expect(lines[0]).toBe('sim  blink board (sim)')
  expect(lines[1]).toBe('                               3V3  1 + + 2  5V')
  expect(lines[2]).toBe('            imu   I2C1 SDA   GPIO2  3 ● + 4  5V')
  expect(lines[6]).toMatch(/^ {10}led [01] {3}SPI1 CE1 {2}GPIO17 11 ● ● 12 GPIO18 {2}PWM0 {7}servo [\d.]+$/)
  expect(lines.at(-2)).toBe('imu     i2c   i2c-1@0x68  3, 5')

  const { events } = await laptop.json('pinout', '-d', 'sim')
  const enable = { name: 'enable', kind: 'output', place: 'GPIO22', pins: [15], safe: 'hold', via: 'inherit', value: 1 }
  expect(events).toMatchObject([
    { event: 'pinout', robot: 'sim', model: 'sim', handles: expect.arrayContaining([enable]) },
  ])
  expect(events[0]?.header).toHaveLength(40)
  // status also shows the place of each handle
  const slots = [{ handles: expect.arrayContaining([expect.objectContaining({ name: 'led', place: 'GPIO17' })]) }]
  expect((await laptop.json('status')).events).toMatchObject([{ event: 'status', slots }])
})

test('pinout shows a board file or a model, and refuses anything else', async () => {
  const board = join(BLINK, 'board.pi4.json')
  const ofFile = await laptop.run('pinout', '--board', board)
  expect(ofFile.stdout).toMatch(/^blink board on a Pi 4 \(pi4\)\n.*\n {12}imu {3}I2C1 SDA {3}GPIO2 {2}3 ● \+ 4 {2}5V\n/)
  const bare = await laptop.json('pinout', '--model', 'pi5')
  expect(bare.events).toMatchObject([{ event: 'pinout', model: 'pi5', handles: [] }])
  expect(await laptop.run('pinout', '--board', board, '--model', 'pi5')).toMatchObject({ status: 2, stdout: '' })
  expect(await laptop.run('pinout', '--board', board, '--watch')).toMatchObject({ status: 2, stdout: '' })
})

test.each([
  ['status', 'q', ['main  blink    1.0.0', 'q quits']],
  ['pinout', '\x03', ['GPIO17', 'servo']],
])(
  '%s --watch on a terminal: draws, ends with its key, and leaves the terminal as it was',
  async (name, key, parts) => {
    const shell = `stty rows 24 cols 100; before=$(stty -g); ${process.execPath} ${CLI} ${name} --watch; echo "exit $?"; [ "$before" = "$(stty -g)" ] && echo restored`
    const terminal = laptop.inTerminal(shell)
    await eventually(() => parts.every((part) => terminal.text().includes(part)))
    terminal.type(key)
    await terminal.ended
    const text = terminal.text()
    expect(text.split(ENTER)).toHaveLength(2)
    expect(text.slice(text.indexOf(LEAVE) + LEAVE.length)).toBe('exit 0\r\nrestored\r\n')
  },
)

test(
  'status --watch and pinout --watch without a terminal: lines, and a word when the robot is away',
  SLOW,
  async () => {
    const reports = follow('status', '--watch', '--json')
    const told = follow('status', '--watch')
    const pins = follow('pinout', '--watch')
    await eventually(() => reports.events().filter(({ event }) => event === 'status').length > 1)
    await eventually(() => /^main: running blink 1\.0\.0$/m.test(told.text()))
    await eventually(() => /\nled 1\n(?:.*\n)*led 0\n/.test(pins.text()))
    expect(pins.text()).toMatch(/^sim {2}blink board \(sim\)\n/)

    await stopSim()
    await eventually(() => reports.events().some(({ event }) => event === 'lost'))
    await keepSim()
    await eventually(() => reports.events().at(-2)?.event === 'back')
    expect(reports.events().at(-1)).toMatchObject({ event: 'status', name: 'sim' })
    for (const each of [reports, told, pins]) {
      each.child.kill('SIGINT')
      expect(await each.child.ended).toMatchObject({ status: 0 })
    }
    expect((await told.child.ended).stderr).toMatch(/^the robot does not answer: .*\nthe robot answers again\n$/)
    process.kill(kept)
    kept = 0
    await eventually(async () => (await laptop.run('status')).status === 5)
    await startSim()
  },
)

test('when the robot does not answer, pinout shows the bare header without -d, and exits 5 with -d or --watch', async () => {
  await stopSim()
  const bare = await laptop.run('pinout')
  expect(bare).toMatchObject({ status: 0, stdout: expect.stringMatching(/^the header of a pi4\n/) })
  expect(bare.stderr).toMatch(/^no robot at .*; showing the bare header\n$/)
  expect(await laptop.run('pinout', '-d', 'sim')).toMatchObject({ status: 5, stdout: '' })
  expect(await laptop.run('status', '--watch')).toMatchObject({ status: 5, stdout: '' })
})
