import { edited, type Simulation, simulate } from 'medulla/test'
import { expect, test } from 'vitest'

const PROGRAM = new URL('program.ts', import.meta.url)

/** The robot as an inverted pendulum on wheels, in m, s and rad. */
const GRAVITY = 9.81
const LENGTH = 0.12
const IMU_HEIGHT = 0.05
const TOP_SPEED = 1
const MOTOR_SECONDS = 0.05
const DEGREES = 180 / Math.PI
/** Reading of the gyroscope at rest, degrees/s. */
const DRIFT = 0.3
/** Integration steps between two readings of the chip, because the pendulum falls fast. */
const PARTS = 5

class Pendulum {
  readonly sim: Simulation
  /** The robot is held upright. */
  held = true
  /** Acceleration by a push, m/s². */
  push = 0
  /** Lean in rad; above 0 forward. */
  lean = 0.02
  #turning = 0
  speed = 0
  /** Distance driven since it was let go, m. */
  way = 0
  /** The greatest lean since this was set to 0, degrees. */
  worst = 0

  constructor(sim: Simulation) {
    this.sim = sim
    this.#sense(0, 0)
    sim.every(5, (dt) => this.#go(dt / PARTS))
  }

  #go(dt: number): void {
    if (this.held) return
    const wanted = (this.#wanted('left') - this.#wanted('right')) / 2
    let [ahead, fall] = [0, 0]
    for (let part = 0; part < PARTS; part++) {
      ahead = (wanted - this.speed) / MOTOR_SECONDS
      fall = (GRAVITY * Math.sin(this.lean) - (ahead - this.push) * Math.cos(this.lean)) / LENGTH
      this.#turning += fall * dt
      this.lean += this.#turning * dt
      this.speed += ahead * dt
      this.way += this.speed * dt
    }
    // the floor
    if (Math.abs(this.lean) > 1.4) [this.lean, this.#turning, fall] = [Math.sign(this.lean) * 1.4, 0, 0]
    this.worst = Math.max(this.worst, Math.abs(this.lean) * DEGREES)
    this.#sense(ahead, fall)
  }

  /** Speed that a wheel tends to, m/s; the right motor is mounted the other way round. */
  #wanted(side: 'left' | 'right'): number {
    const way = this.sim.value(`${side}Direction`) === 1 ? -1 : 1
    return TOP_SPEED * way * this.sim.value(`${side}Pwm`)
  }

  /** Sets what the chip measures: gravity, the acceleration of the wheels, and its own motion around the axle. */
  #sense(ahead: number, fall: number): void {
    const [sin, cos] = [Math.sin(this.lean), Math.cos(this.lean)]
    const forward = ahead * cos + IMU_HEIGHT * fall - GRAVITY * sin
    const up = ahead * sin - IMU_HEIGHT * this.#turning ** 2 + GRAVITY * cos
    this.sim.poke('imu', 'accel', [forward / GRAVITY, 0, up / GRAVITY])
    this.sim.poke('imu', 'gyro', [0, this.#turning * DEGREES + DRIFT, 0])
  }

  /** Holds the robot until its program balances, then lets it go. */
  async letGo(): Promise<void> {
    await this.sim.until('stands')
    this.held = false
  }
}

const speeds = (sim: Simulation) => [sim.value('leftPwm'), sim.value('rightPwm')]

test('the robot balances for a minute, also while it is pushed and its program is replaced', async () => {
  const sim = await simulate(PROGRAM)
  const robot = new Pendulum(sim)
  await robot.letGo()
  await sim.run('20s')
  expect(robot.worst).toBeLessThan(5)

  // replaced while it is being pushed
  robot.push = 2.5
  await sim.run('100ms')
  const lean = robot.lean
  expect(Math.abs(lean) * DEGREES).toBeGreaterThan(0.5)
  const { initWrites } = sim.chip('imu')
  const swap = await sim.swap(edited(PROGRAM, 'SETTLE = 1', 'SETTLE = 1.5'))
  await sim.run('100ms')
  robot.push = 0
  await sim.run('20s')
  expect(swap.outcome).toBe('committed')
  expect(sim.chip('imu').initWrites).toBe(initWrites)
  expect(robot.worst).toBeLessThan(25)

  robot.worst = 0
  await sim.run('20s')
  expect(robot.worst).toBeLessThan(1)
  await sim.stop()
  expect(speeds(sim)).toEqual([0, 0])
})

test('changed parameters take effect while the robot balances', async () => {
  const sim = await simulate(PROGRAM)
  const robot = new Pendulum(sim)
  await robot.letGo()
  await sim.run('4s')
  // the gyroscope drifts: the program measures a small lean forward that is not there, and rolls backward
  const { speed } = robot
  expect(speed).toBeLessThan(-0.02)
  await sim.param('trim', 0.3)
  await sim.param('brake', 9)
  await sim.run('5s')
  expect(Math.abs(robot.speed)).toBeLessThan(Math.abs(speed) / 2)
  expect(robot.worst).toBeLessThan(5)
  await sim.stop()
})

test('after a crash the motors stay off until the robot is held upright', async () => {
  const sim = await simulate(PROGRAM, { crashes: 'log' })
  const robot = new Pendulum(sim)
  await robot.letGo()
  await sim.run('6s')
  await sim.crash()
  expect(speeds(sim)).toEqual([0, 0])
  const crashed = sim.ms
  await sim.run('10s')
  expect(sim.receipts.at(-1)?.outcome).toBe('restarted')
  expect(sim.changes('leftPwm').filter(({ ms }) => ms > crashed)).toEqual([])
  expect(sim.state).toMatchObject({ fallen: true, pitch: expect.toSatisfy((pitch: number) => Math.abs(pitch) > 60) })
  await sim.stop()
})

test('a version that lets the robot fall is undone; the motors stay off until it is held upright', async () => {
  const sim = await simulate(PROGRAM, { crashes: 'log' })
  const robot = new Pendulum(sim)
  await robot.letGo()
  await sim.run('1s')
  const swap = await sim.swap(edited(PROGRAM, 'params.kp * error', '-params.kp * error'))
  await sim.until('fell over', '3s')
  expect(speeds(sim)).toEqual([0, 0])
  await sim.run('3s')
  expect(swap.outcome).toBe('rolled-back')
  expect(speeds(sim)).toEqual([0, 0])

  Object.assign(robot, { held: true, lean: 0 })
  sim.poke('imu', 'accel', [0, 0, 1])
  sim.poke('imu', 'gyro', [0, 0, 0])
  await robot.letGo()
  robot.worst = 0
  await sim.run('2s')
  expect(robot.worst).toBeLessThan(5)
  await sim.stop()
})
