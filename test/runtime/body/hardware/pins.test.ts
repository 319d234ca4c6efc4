import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { parseBoard } from '../../../../drivers/board/board.ts'
import { SimBackend } from '../../../../drivers/owner/sim/backend.ts'
import { World } from '../../../../drivers/owner/sim/world.ts'
import { HardwareOwner } from '../../../../runtime/body/hardware/owner.ts'
import { Pins } from '../../../../runtime/body/hardware/pins.ts'

const folder = mkdtempSync(join(tmpdir(), 'medulla-pokes-'))
const board = parseBoard(
  JSON.stringify({
    model: 'sim',
    handles: {
      led: { kind: 'output', line: 'GPIO17' },
      button: { kind: 'input', line: 'GPIO23', pull: 'up', activeLow: true },
      wired: { kind: 'input', line: 'GPIO24' },
      imu: { kind: 'i2c', bus: 1, address: '0x68', simulate: 'mpu6050' },
    },
    wires: [['led', 'wired']],
  }),
  'board.json',
)
const world = new World({ wires: board.wires })
let fence = 0
const owner = new HardwareOwner(new SimBackend({ world, folder, links: folder }), board, () => ++fence)
afterAll(() => {
  owner.close()
  rmSync(folder, { recursive: true, force: true })
})
const refused = (code: string, message: RegExp) =>
  expect.objectContaining({ code, message: expect.stringMatching(message) })

test('HANDLES 9.11: an input can be pressed and released in logical levels; a chip can be poked', () => {
  const pins = new Pins({ owner, world })
  expect(pins.present(['button'])).toMatchObject([{ value: 0 }])
  expect(pins.poke('button', null, '1')).toMatchObject({ name: 'button', value: 1 })
  expect(world.pin('button').pulled).toBe(0)
  expect(pins.poke('button', null, 'null')).toMatchObject({ value: 0 })
  pins.poke('imu', 'accel', '[0, 0, 1]')
  expect(() => pins.poke('button', null, '2')).toThrow(refused('usage', /expected 0, 1 or release/))
  expect(() => pins.poke('button', null, '{')).toThrow(refused('usage', /expected JSON/))
  expect(() => pins.poke('imu', 'acel', '1')).toThrow(refused('usage', /cannot poke acel/))
  expect(() => pins.poke('led', null, '1')).toThrow(refused('wrong-kind', /led is no input/))
  expect(() => pins.poke('wired', null, '1')).toThrow(refused('wrong-kind', /wired to led/))
  expect(() => pins.poke('ghost', null, '1')).toThrow(refused('missing-handle', /no handle ghost/))
})

test('HANDLES 9.11: handles of a real board cannot be poked', () => {
  expect(() => new Pins({ owner, world: null }).poke('button', null, '1')).toThrow(
    refused('usage', /this board is real/),
  )
})
