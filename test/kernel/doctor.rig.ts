/** The doctor on a kernel with the hardware interfaces of a Pi: its findings about chips, lines and buses are right. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { parseBoard } from '../../drivers/board/board.ts'
import { LinuxBackend } from '../../drivers/owner/linux/backend.ts'
import { gather } from '../../runtime/doctor/gather.ts'
import { judge } from '../../runtime/doctor/judge.ts'
import { boardText } from './board.ts'
import { heldLines } from './guest.ts'
import { trace } from './trace.ts'

let dir: string
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'doctor-'))
})
afterEach(() => rmSync(dir, { recursive: true }))

async function faults(board: string) {
  const file = join(dir, 'board.json')
  writeFileSync(file, board)
  const facts = await gather({ home: dir, board: file })
  return { facts, faults: judge(facts).findings.filter(({ severity }) => severity !== 'ok') }
}

const HANDLES = {
  led: { kind: 'output', line: 'GPIO17' },
  button: { kind: 'input', line: 'GPIO27' },
  servo: { kind: 'pwm', line: 'GPIO18', frequencyHz: 50 },
  imu: { kind: 'i2c', bus: 1, address: '0x68' },
  display: { kind: 'spi', bus: 0, select: 1 },
}

test('a fitting board has no problem, and the doctor changes no line', async () => {
  const recording = trace()
  const { facts, faults: found } = await faults(JSON.stringify({ model: 'pi4', handles: HANDLES }))
  const events = recording.stop()
  expect(found.filter(({ severity }) => severity === 'problem')).toEqual([])
  expect(facts.chips).toMatchObject([{ label: 'pinctrl-bcm2711', lines: 54, used: {} }])
  expect(facts.i2c.map(({ path }) => path)).toEqual(['/dev/i2c-1', '/dev/i2c-2'])
  expect(facts.pwm).toMatchObject([{ number: 0, channels: 4 }])
  expect(facts.spi.map(({ path }) => path)).toEqual(['/dev/spidev0.0', '/dev/spidev0.1'])
  expect(facts.groups).toMatchObject({
    mount: '/sys/fs/cgroup',
    controllers: expect.arrayContaining(['memory', 'pids']),
  })
  // the chip was only asked for its info and for the consumers of its lines
  const touched = events.filter(({ what }) => what !== 'open-path')
  expect(touched).toEqual([expect.objectContaining({ what: 'open', name: 'gpiochip0' })])
  expect(heldLines()).toEqual(new Map())
})

test('a line in use is reported with its consumer', async () => {
  const board = parseBoard(boardText(), 'rig')
  const backend = new LinuxBackend({ board })
  backend.open('somebody', 1, board.handles.toggle as never)
  try {
    const { faults: found } = await faults(JSON.stringify({ model: 'pi4', handles: HANDLES }))
    expect(found).toContainEqual(
      expect.objectContaining({
        about: 'line',
        severity: 'problem',
        found: '"led": GPIO17 is held by "medulla:somebody"',
      }),
    )
  } finally {
    backend.close()
  }
})

test('a missing chip and a missing bus are problems', async () => {
  const handles = { ...HANDLES, imu: { kind: 'i2c', bus: 5, address: '0x68' } }
  const { faults: found } = await faults(JSON.stringify({ model: 'pi5', handles }))
  const problems = found.filter(({ severity }) => severity === 'problem')
  expect(problems.map(({ about, fix }) => [about, fix[0]])).toEqual([
    ['gpio', { write: '"chip": "pinctrl-bcm2711"', to: 'board.json' }],
    ['i2c', { run: 'sudo modprobe i2c-dev' }],
  ])
})
