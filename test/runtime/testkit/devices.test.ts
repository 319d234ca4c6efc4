/** Devices of medulla/drivers in programs, on simulated chips and in simulated time, over a swap. */
import { robot } from 'medulla'
import {
  Button,
  Display,
  Distance,
  Eeprom,
  Environment,
  Imu,
  Led,
  LineSensor,
  Pca9685,
  Servo,
  Sonar,
  Stepper,
} from 'medulla/drivers'
import { simulate } from 'medulla/test'
import { expect, test } from 'vitest'

const i2c = (address: string, chip: string) => ({ kind: 'i2c', bus: 1, address, simulate: chip })
const board = {
  model: 'sim',
  handles: {
    lamp: { kind: 'pwm', line: 12, frequencyHz: 1000 },
    button: { kind: 'input', line: 4, debounceMs: 5 },
    trigger: { kind: 'output', line: 5 },
    echo: { kind: 'input', line: 6 },
    step: { kind: 'output', line: 7 },
    way: { kind: 'output', line: 8 },
    servos: i2c('0x40', 'pca9685'),
    imu: i2c('0x68', 'mpu6050'),
    air: i2c('0x76', 'bme280'),
    tof: i2c('0x29', 'vl53l0x'),
    oled: i2c('0x3c', 'ssd1306'),
    rom: i2c('0x57', '24c32'),
    bar: i2c('0x20', 'pcf8574'),
  },
}
const CHIPS = ['servos', 'imu', 'air', 'tof', 'oled', 'rom', 'bar'] as const

interface Sensed {
  shown: string
  angles: { pitch: number | null; roll: number | null }
  temperature: number
  mm: number | null
  line: number | null
}

const chips = () =>
  robot({
    needs: { servos: 'i2c', imu: 'i2c', air: 'i2c', tof: 'i2c', oled: 'i2c', rom: 'i2c', bar: 'i2c' },
    state: {
      version: 1,
      initial: (): Sensed => ({ shown: '', angles: { pitch: null, roll: null }, temperature: 0, mm: null, line: null }),
    },
    run({ servos, imu, air, tof, oled, rom, bar, state, every }) {
      const servo = new Servo(new Pca9685(servos, { frequencyHz: 50 }).channel(0))
      const motion = new Imu(imu, state.angles)
      const climate = new Environment(air)
      const distance = new Distance(tof)
      const display = new Display(oled, { shown: state.shown })
      const line = new LineSensor(bar)
      new Eeprom(rom).write(0, Buffer.from('medulla'))
      every(10, (dt) => {
        motion.tick(dt)
        distance.tick(dt)
        const { pitch, roll } = motion
        const temperature = climate.read()?.temperature ?? 0
        Object.assign(state, { angles: { pitch, roll }, temperature, mm: distance.mm, line: line.position() })
        servo.to(90 + Math.round(pitch))
        display.text(0, 0, `${temperature.toFixed(1)} C`)
        display.flush()
        state.shown = display.shown
      })
    },
  })

test('HANDLES 12.14: a swap initialises no chip, and displays, servos and sensors go on', async () => {
  const sim = await simulate(chips, { board })
  sim.poke('air', 'temperature', 21.5)
  sim.poke('tof', 'distance', 432)
  sim.poke('bar', 'line', 1)
  sim.poke('imu', 'accel', [-0.5, 0, Math.sqrt(0.75)])
  await sim.run('5s')
  expect(sim.state).toMatchObject({
    angles: { pitch: expect.closeTo(30, 1) },
    temperature: expect.closeTo(21.5, 1),
    mm: 432,
    line: 1,
  })
  // 120 of 180 degrees
  const { duties, frequencyHz } = sim.chip('servos') as { duties: number[]; frequencyHz: number }
  expect(((duties[0] ?? 0) / frequencyHz) * 1000).toBeCloseTo(0.5 + (120 / 180) * 2, 2)

  const before = CHIPS.map((name) => sim.chip(name))
  await sim.swap(chips)
  await sim.run('2s')
  const after = CHIPS.map((name) => sim.chip(name))
  expect(sim.receipts.at(-1)).toMatchObject({ outcome: 'committed' })
  // the EEPROM was read, so its pointer moved and its write cycle ended; nothing else has changed
  const moved = { pointer: 0, busy: false }
  for (const [index, name] of CHIPS.entries()) {
    expect({ ...after[index], ...moved }, name).toEqual({ ...before[index], ...moved })
  }
  await sim.stop()
})

test('Led, Button, Sonar and Stepper keep their timing in simulated time', async () => {
  const heard: string[] = []
  const sim = await simulate(
    () =>
      robot(
        { lamp: 'pwm', button: 'input', trigger: 'output', echo: 'input', step: 'output', way: 'output' },
        ({ lamp, button, trigger, echo, step, way, every, log }) => {
          const led = new Led(lamp)
          led.pulse(500)
          const push = new Button(button, { holdMs: 200 })
          push.onHold(() => heard.push('hold'))
          push.onRelease(() => heard.push('release'))
          const sonar = new Sonar(trigger, echo)
          const motor = new Stepper({ step, direction: way }, { rpm: 30 })
          motor.cw(100)
          every(1, (dt) => {
            led.tick(dt)
            push.tick(dt)
            sonar.tick(dt)
            motor.tick(dt)
            if (sonar.mm !== null) log(`${Math.round(sonar.mm)} mm`)
          })
        },
      ),
    { board },
  )
  await sim.run(500)
  expect(sim.value('lamp')).toBeCloseTo(1, 2)
  sim.pull('button', 1)
  await sim.run(500)
  expect(sim.value('lamp')).toBeCloseTo(0, 2)
  sim.pull('button', 0)
  await sim.run(100)
  expect(heard).toEqual(['hold', 'release'])
  // 100 steps a second, each a pulse of 1 ms
  const steps = sim.changes('step').filter(({ value }) => value === 1)
  expect(steps).toHaveLength(100)
  expect((steps[99]?.ms ?? 0) - (steps[0]?.ms ?? 0)).toBeCloseTo(990, 0)
  // an echo after 4 ms
  sim.pull('echo', 1)
  await sim.run(4)
  sim.pull('echo', 0)
  await sim.until('687 mm', 10)
  await sim.stop()
})
