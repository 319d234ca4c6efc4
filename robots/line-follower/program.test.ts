import { edited, type Simulation, simulate } from 'medulla/test'
import { expect, test } from 'vitest'

const PROGRAM = new URL('program.ts', import.meta.url)

/** The robot, in m and s. */
const TOP_SPEED = 0.6
const MOTOR_SECONDS = 0.06
const WHEELS_APART = 0.12
const BAR_AHEAD = 0.08
const BAR_HALF = 0.035

/** Distance from the line in m, below 0 outside of it. The line is a bent ring, about 4.5 m long, driven to the left. */
const off = (x: number, y: number) => 0.7 * (1 + 0.12 * Math.cos(3 * Math.atan2(y, x))) - Math.hypot(x, y)

/** A model of the robot on its track: moves it by its motors, and sets what the bar senses. */
class Track {
  readonly sim: Simulation
  #x = 0.784
  #y = 0
  #heading = Math.PI / 2
  #left = 0
  #right = 0
  /** Number of rounds driven. */
  turns = 0
  /** Greatest deviation of the line from the middle of the bar; 1 is the end of the bar. */
  worst = 0
  /** Seconds without a line. */
  lost = 0

  constructor(sim: Simulation) {
    this.sim = sim
    sim.poke('bar', 'line', this.#line())
    sim.every(5, (dt) => this.#go(dt))
  }

  #go(dt: number): void {
    const before = Math.atan2(this.#y, this.#x)
    this.#left += ((this.#wanted('left') - this.#left) * dt) / MOTOR_SECONDS
    this.#right += ((this.#wanted('right') - this.#right) * dt) / MOTOR_SECONDS
    const speed = (this.#left + this.#right) / 2
    this.#heading += ((this.#right - this.#left) / WHEELS_APART) * dt
    this.#x += speed * Math.cos(this.#heading) * dt
    this.#y += speed * Math.sin(this.#heading) * dt
    const turned = (Math.atan2(this.#y, this.#x) - before) / (2 * Math.PI)
    this.turns += turned - Math.round(turned)
    const line = this.#line()
    if (line === null) this.lost += dt
    else this.worst = Math.max(this.worst, Math.abs(line))
    this.sim.poke('bar', 'line', line)
  }

  /** Speed that a wheel tends to, m/s. */
  #wanted(side: 'left' | 'right'): number {
    const way = this.sim.value(`${side}Direction`) === 1 ? -1 : 1
    return TOP_SPEED * way * this.sim.value(`${side}Pwm`)
  }

  /** Position of the line below the bar, -1 (left) to 1 (right); null when there is none. */
  #line(): number | null {
    const [east, north] = [Math.cos(this.#heading), Math.sin(this.#heading)]
    const at = (side: number) =>
      off(this.#x + BAR_AHEAD * east + side * BAR_HALF * north, this.#y + BAR_AHEAD * north - side * BAR_HALF * east)
    for (let side = -1.1; side < 1.1; side += 0.1) {
      const [from, to] = [at(side), at(side + 0.1)]
      if (from >= 0 !== to >= 0) return side + (0.1 * from) / (from - to)
    }
    return null
  }
}

const speeds = (sim: Simulation) => [sim.value('leftPwm'), sim.value('rightPwm')]

test('the robot stays on a bent line all the way round, also over a swap', async () => {
  const sim = await simulate(PROGRAM)
  const track = new Track(sim)
  await sim.run('9s')
  const turns = track.turns
  expect(turns).toBeGreaterThan(0.4)

  const swap = await sim.swap(edited(PROGRAM, 'SMOOTH = 0.03', 'SMOOTH = 0.05'))
  await sim.run('11s')
  expect(swap.outcome).toBe('committed')
  expect(track.turns).toBeGreaterThan(turns + 0.5)
  expect(track.lost).toBe(0)
  expect(track.worst).toBeLessThan(0.5)

  await sim.stop()
  expect(speeds(sim)).toEqual([0, 0])
})

test('a parameter changes the speed while the robot drives', async () => {
  const sim = await simulate(PROGRAM, { params: { speed: 0.2 } })
  const track = new Track(sim)
  await sim.run('4s')
  const { turns } = track
  await sim.param('speed', 0.4)
  await sim.run('4s')
  expect(track.turns - turns).toBeGreaterThan(1.7 * turns)
  expect(track.lost).toBe(0)
  await sim.stop()
})

test('a version that loses the line is undone, and the old version finds the line again', async () => {
  const sim = await simulate(PROGRAM, { crashes: 'log' })
  const track = new Track(sim)
  await sim.run('2s')
  const swap = await sim.swap(edited(PROGRAM, 'params.kp * seen', '-params.kp * seen'))
  await sim.run('10s')
  expect(swap.outcome).toBe('rolled-back')
  expect(sim.receipts.find(({ outcome }) => outcome === 'rolled-back')?.said).toContain('it has lost the line')
  const { turns, lost } = track
  await sim.run('4s')
  expect(track.turns).toBeGreaterThan(turns + 0.2)
  expect(track.lost).toBe(lost)
  await sim.stop()
})

test('without a line the robot drives on over a gap, then circles to the side of the line, then gives up', async () => {
  const sim = await simulate(PROGRAM)
  sim.poke('bar', 'line', 0.4)
  await sim.run('100ms')
  const before = speeds(sim)
  sim.poke('bar', 'line', null)
  await sim.run('140ms')
  expect(speeds(sim)).toEqual(before)
  await sim.run('100ms')
  // in a circle to the right
  expect(speeds(sim)).toEqual([0.45, expect.closeTo(0.05, 6)])
  await sim.until('waiting for one', '3s')
  expect(speeds(sim)).toEqual([0, 0])
  sim.poke('bar', 'line', 0)
  await sim.until('follows the line', '20ms')
  expect(speeds(sim)).not.toEqual([0, 0])
  await sim.stop()
})
