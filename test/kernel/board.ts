/** Boards for tests in the rig: gpio-sim's lines under the label of a Pi 4, and the chips on two I2C buses. */
import { type Level, levelReader } from './guest.ts'

export const LINE = { hold1: 5, hold2: 6, hold3: 13, hold4: 19, toggle: 17, button: 27, stop: 22 } as const

/** Safe levels of the outputs. */
export const SAFE = { hold1: 0, hold2: 0, hold3: 1, hold4: 0, toggle: 0 } as const

const output = (name: keyof typeof SAFE) => ({ kind: 'output', line: `GPIO${LINE[name]}`, safe: SAFE[name] })

/** Long, because in the rig starting the next program delays the heartbeats of the running one. */
export const HEARTBEAT_MS = 250
/** The guard ends a body that stands still for this time. */
export const BODY_MS = 2000

const TIMING = {
  trialMs: 50,
  readyMs: 10_000,
  yieldMs: 200,
  takeoverMs: 500,
  heartbeatMs: HEARTBEAT_MS,
  bodyMs: BODY_MS,
  checkpointMs: 200,
  restartMostMs: 100,
}

/** For tests that are not about silence: load on the machine must not count as silence. */
export const PATIENT = { timing: { ...TIMING, heartbeatMs: 1000 } }

export const boardText = (more: object = {}): string =>
  JSON.stringify({
    name: 'rig',
    model: 'pi4',
    handles: {
      hold1: output('hold1'),
      hold2: output('hold2'),
      hold3: output('hold3'),
      hold4: output('hold4'),
      toggle: output('toggle'),
      button: { kind: 'input', line: `GPIO${LINE.button}`, edges: 'both' },
      stop: { kind: 'input', line: `GPIO${LINE.stop}`, edges: 'both' },
      imu: { kind: 'i2c', bus: 1, address: '0x68' },
      servos: { kind: 'i2c', bus: 1, address: '0x40' },
    },
    timing: TIMING,
    ...more,
  })

export type Outputs = Record<keyof typeof SAFE, Level>

let readers: [name: keyof typeof SAFE, read: () => Level][] | undefined

/** The present levels of the outputs. */
export function outputs(): Outputs {
  readers ??= (Object.keys(SAFE) as (keyof typeof SAFE)[]).map((name) => [name, levelReader(LINE[name])])
  return Object.fromEntries(readers.map(([name, read]) => [name, read()])) as Outputs
}

export function isSafe(): boolean {
  const now = outputs()
  return Object.entries(SAFE).every(([name, level]) => now[name as keyof typeof SAFE] === level)
}
