/**
 * What the operations are done on: devices of a kernel, opened as a body opens them, or descriptors that stand for them.
 *
 * Invariant: without a device only the way through JavaScript is measured, and every row says so.
 */
import { spawnSync } from 'node:child_process'
import { constants, openSync } from 'node:fs'
import { join } from 'node:path'
import { parseBoard } from '../../drivers/board/board.ts'
import type { Board } from '../../drivers/board/types.ts'
import type { Backend, OwnedHandle } from '../../drivers/owner/backend.ts'
import { LinuxBackend } from '../../drivers/owner/linux/backend.ts'
import { SimBackend } from '../../drivers/owner/sim/backend.ts'
import { World } from '../../drivers/owner/sim/world.ts'
import type { Encoding } from '../../drivers/program/handle.ts'
import { type Devices, IMU, LINES, type Operation, type Way } from './operations.ts'
import { output } from './own.ts'
import { start, temporary } from './rig.ts'

export interface Prepared {
  readonly devices: Devices
  /** Operations in a sample; a request to another process takes so much longer that a tenth of them will do. */
  readonly batch: Record<Way, number>
  /** What is inherited; undefined: this operation is not done that way here. */
  inherited(operation: Operation): { fd: number; encoding: Encoding } | undefined
  /** What the broker serves. */
  owned(operation: Operation): OwnedHandle | undefined
  own(operation: Operation): boolean
  note(operation: Operation, way: Way): string
  /** Whether inherited and in-process come to the same call in the end. */
  comparable(operation: Operation): boolean
  close(): void
}

const KERNEL: Record<Operation, string> = {
  value: 'value file of sysfs, gpio-sim',
  line: 'GPIO_V2_LINE_SET_VALUES, gpio-sim',
  'i2c-write': '2 bytes to /dev/i2c-1',
  'i2c-write-byte': '2 bytes to /dev/i2c-1',
  'i2c-read': '6 bytes from a register of /dev/i2c-1',
  record: '',
}
const NONE: Record<Operation, string> = {
  value: 'no device: a file on tmpfs',
  line: 'no device: FIONCLEX instead',
  'i2c-write': 'no device: FIONCLEX instead',
  'i2c-write-byte': '',
  'i2c-read': 'no device: FIONCLEX instead',
  record: 'the simulator',
}

const i2c = { kind: 'i2c', bus: IMU.bus, address: `0x${IMU.address.toString(16)}` }

function opened(backend: Backend, board: Board): Map<string, OwnedHandle> {
  const handles = Object.entries(board.handles).map(([name, entry], id) => backend.open(name, id + 1, entry))
  const names = handles.map(({ name }) => name)
  backend.advance(1, names)
  return new Map(handles.map((handle) => [handle.name, handle]))
}

/** In the rig: lines of gpio-sim, and a chip behind an adapter of the kernel. */
export function kernelDevices(): Prepared {
  const handles = { value: output(LINES.value, { driver: 'sysfs' }), line: output(LINES.line), imu: i2c }
  const board = parseBoard(JSON.stringify({ model: 'pi4', handles }), 'kernel')
  const backend = new LinuxBackend({ board })
  const all = opened(backend, board)
  const of = (operation: Operation) => {
    if (operation === 'value' || operation === 'line') return all.get(operation)
    return operation === 'i2c-write' || operation === 'i2c-read' ? all.get('imu') : undefined
  }
  return {
    devices: 'kernel',
    batch: { inherited: 200, 'in-process': 200, brokered: 20 },
    inherited(operation) {
      const source = of(operation)?.grant()
      return source?.via === 'inherit' ? source : undefined
    },
    owned: of,
    own: (operation) => operation !== 'record',
    note: (operation) => KERNEL[operation],
    comparable: () => true,
    close: () => backend.close(),
  }
}

/** Anywhere: nothing of the hardware is touched. */
export function standIns(): Prepared {
  const folder = temporary(true)
  const fifo = join(folder, 'fifo')
  if (spawnSync('mkfifo', ['-m', '600', fifo]).status !== 0) throw new Error('mkfifo failed')
  const drain = start('cat', [fifo], { stdio: ['ignore', 'ignore', 'inherit'] })
  const file = (name: string) => openSync(join(folder, name), 'w+', 0o600)
  const sources: Partial<Record<Operation, { fd: number; encoding: Encoding }>> = {
    value: { fd: file('value'), encoding: 'text' },
    line: { fd: file('line'), encoding: 'line' },
    'i2c-write': { fd: openSync('/dev/null', 'r+'), encoding: 'i2c' },
    'i2c-read': { fd: file('i2c'), encoding: 'i2c' },
    // waits for the reader
    record: { fd: openSync(fifo, constants.O_WRONLY), encoding: 'record' },
  }
  const handles = { output: output(LINES.value, { via: 'broker' }), imu: { ...i2c, simulate: 'mpu6050' } }
  const board = parseBoard(JSON.stringify({ model: 'sim', handles }), 'none')
  const backend = new SimBackend({ world: new World(), folder: join(folder, 'handles') })
  const all = opened(backend, board)
  return {
    devices: 'none',
    batch: { inherited: 1000, 'in-process': 1000, brokered: 100 },
    inherited: (operation) => sources[operation],
    owned(operation) {
      if (operation === 'value') return all.get('output')
      return operation === 'i2c-write' || operation === 'i2c-read' ? all.get('imu') : undefined
    },
    // no descriptor but a bus's takes the SMBus call
    own: (operation) => operation !== 'i2c-read' && operation !== 'i2c-write-byte',
    note(operation, way) {
      if (way === 'brokered') return 'the simulated device'
      return way === 'in-process' && operation === 'i2c-write' ? 'no device: /dev/null' : NONE[operation]
    },
    comparable: (operation) => operation !== 'i2c-write',
    close() {
      drain.kill()
      backend.close()
    },
  }
}
