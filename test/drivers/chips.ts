/** Chips of a simulated world as brokered handles in this process, without a socket. */

import { parseBoard } from '../../drivers/board/board.ts'
import { grantOf } from '../../drivers/owner/backend.ts'
import { SimBackend } from '../../drivers/owner/sim/backend.ts'
import { World } from '../../drivers/owner/sim/world.ts'
import { adoptBrokered } from '../../drivers/program/broker/index.ts'
import type { I2cDevice, Lease } from '../../drivers/program/handle.ts'

export const lease: Lease = { live: true, fence: 1 }

/** `chips` maps an address to a model. */
export function simulatedChips(folder: string, chips: Record<number, string>): { world: World; devices: I2cDevice[] } {
  const handles = Object.fromEntries(
    Object.entries(chips).map(([address, simulate]) => [
      `chip${address}`,
      { kind: 'i2c', bus: 1, address: Number(address), simulate },
    ]),
  )
  const board = parseBoard(JSON.stringify({ model: 'sim', handles }), 'board.json')
  const world = new World()
  const backend = new SimBackend({ world, folder })
  backend.advance(lease.fence, [])
  const devices = Object.entries(board.handles).map(([name, entry], index) => {
    const owned = backend.open(name, index + 1, entry)
    const broker = {
      request: (_id: number, op: number, fence: number, payload: Uint8Array) => owned.request(op, payload, fence),
    }
    return adoptBrokered(grantOf(owned, owned.grant()), lease, broker) as I2cDevice
  })
  return { world, devices }
}
