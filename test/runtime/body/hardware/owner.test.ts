import { expect, test } from 'vitest'
import { parseBoard } from '../../../../drivers/board/board.ts'
import { SimBackend } from '../../../../drivers/owner/sim/backend.ts'
import { World } from '../../../../drivers/owner/sim/world.ts'
import { HardwareOwner } from '../../../../runtime/body/hardware/owner.ts'

const adc = (channel: number, address = '0x48') => ({ kind: 'analog', adc: 'ads1115', bus: 1, address, channel })

function ownerOf(handles: object): HardwareOwner {
  const board = parseBoard(JSON.stringify({ model: 'sim', handles }), 'board.json')
  let fence = 0
  return new HardwareOwner(new SimBackend({ world: new World(), folder: null }), board, () => ++fence)
}

test('HANDLES 16.3: the inputs of one converter go to one slot', () => {
  const handles = { pot: adc(0), light: adc(1), other: adc(0, '0x49'), led: { kind: 'output', line: 1 } }
  const owner = ownerOf(handles)
  owner.take(['pot', 'led'], 'arm')
  expect(owner.leasedByOthers('arm')).toEqual({})
  const leased = {
    pot: { slot: 'arm', holds: 'pot' },
    light: { slot: 'arm', holds: 'pot' },
    led: { slot: 'arm', holds: 'led' },
  }
  expect(owner.leasedByOthers('main')).toEqual(leased)
  expect(() => owner.take(['light'], 'main')).toThrow('light goes together with pot, which is leased to slot arm')
  expect(() => owner.take(['led'], 'main')).toThrow('led is leased to slot arm')
  owner.take(['light'], 'arm')
  owner.take(['other'], 'main')
  owner.keep([], 'arm')
  owner.take(['light'], 'main')
  owner.close()
})

test('HANDOVER 7.8: the owner reports the present output values of a slot', () => {
  const handles = {
    arm: { kind: 'servo', line: 18, initial: 30 },
    led: { kind: 'output', line: 1, initial: 1 },
    pot: adc(0),
  }
  const owner = ownerOf(handles)
  expect(owner.values('main')).toEqual({})
  owner.take(['arm', 'led', 'pot'], 'main')
  expect(owner.values('main')).toEqual({ arm: 30, led: 1 })
  owner.close()
})
