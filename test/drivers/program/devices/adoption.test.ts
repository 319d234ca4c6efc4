/** A successor creates its devices again, without a write to their chips. */
import { afterAll, expect, test } from 'vitest'
import { Display, Distance, Eeprom, Environment, Imu, LineSensor, Pca9685, Servo } from '../../../../drivers/index.ts'
import type { I2cDevice } from '../../../../drivers/program/handle.ts'
import { rehearsalHandles, ZeroBroker } from '../../../../runtime/sdk/dummies.ts'
import { simulatedChips } from '../../chips.ts'
import { counted } from '../../counted.ts'
import { temporary } from '../../host.ts'

const folder = temporary()
afterAll(() => folder.remove())

/** A program. What it returns goes to the next one, as its state would. */
type Program = (device: I2cDevice, before: unknown, adopt: boolean) => unknown

const PROGRAMS: [model: string, address: number, program: Program][] = [
  [
    'pca9685',
    0x40,
    (device, _, adopt) => new Servo(new Pca9685(device, { frequencyHz: 50, adopt }).channel(1)).degrees,
  ],
  ['bme280', 0x76, (device, _, adopt) => new Environment(device, { adopt }).read()],
  [
    'mpu6050',
    0x68,
    (device, _, adopt) => {
      const imu = new Imu(device, { accelRange: 4, gyroRange: 500, adopt })
      imu.tick(0.01)
      return imu.pitch
    },
  ],
  // a tick without a new measurement writes nothing either
  ['vl53l0x', 0x29, (device, _, adopt) => new Distance(device, { adopt }).mm],
  [
    'ssd1306',
    0x3c,
    (device, before, adopt) => {
      const display = new Display(device, { adopt, ...(typeof before === 'string' ? { shown: before } : {}) })
      display.text(0, 0, 'medulla')
      display.flush()
      return display.shown
    },
  ],
  ['24c32', 0x57, (device) => new Eeprom(device).write(0, Uint8Array.of(1, 2, 3))],
  ['pcf8574', 0x20, (device) => new LineSensor(device).position()],
]

test.each(PROGRAMS)(
  'HANDLES 12.14: %s: a swap writes nothing to the chip and changes no register',
  (model, address, program) => {
    const { world, devices } = simulatedChips(folder.path, { [address]: model })
    const device = counted(devices[0] as I2cDevice)
    let made = program(device, undefined, false)
    // an EEPROM is still in its write cycle
    if (model === '24c32') new Eeprom(device).read(0, 1)
    const before = world.chip(`chip${address}`)
    device.writes = 0
    for (let swap = 0; swap < 3; swap++) made = program(device, made, false)
    expect(device.writes).toBe(0)
    expect({ ...world.chip(`chip${address}`), pointer: 0 }).toEqual({ ...before, pointer: 0 })
    // with `adopt`, a chip that nobody configured is not written to either
    if (model === 'ssd1306' || model === '24c32') return
    const other = simulatedChips(folder.path, { [address]: model })
    const untouched = counted(other.devices[0] as I2cDevice)
    program(untouched, undefined, true)
    expect(untouched.writes).toBe(0)
  },
)

test.each(PROGRAMS)('HANDLES 12.15: %s: a rehearsal, which reads zeros, succeeds', (_, address, program) => {
  const broker = new ZeroBroker(null)
  const grant = { name: 'chip', id: 1, kind: 'i2c', via: 'broker', address } as const
  const device = rehearsalHandles([grant], { live: true, fence: 0 }, broker, null).get('chip') as I2cDevice
  let made: unknown
  for (let round = 0; round < 3; round++) made = program(device, made, false)
  expect(broker.asked).toBe(true)
})
