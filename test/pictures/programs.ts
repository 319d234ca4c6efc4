/** The two programs of the pictures: a servo that swings and a led that blinks. The second one is faster at both. */

interface Pace {
  version: string
  /** Swings of the servo in a second. */
  swings: number
  /** Steps of 50 ms between two edges of the led. */
  steps: number
}

export const OLD: Pace = { version: '1.0.0', swings: 0.6, steps: 6 }
export const NEW: Pace = { version: '1.1.0', swings: 1.2, steps: 3 }

/** A program writes the servo at once when it takes over, so that the trace shows from when on it could. */
export const programText = ({ swings, steps }: Pace): string => `import { robot } from 'medulla'
robot({
  needs: { led: 'output', servo: 'servo' },
  state: { version: 1, initial: () => ({ turn: 0, speed: ${swings}, step: 0 }) },
  run({ led, servo, state, every }) {
    const swing = (dt) => {
      state.speed += (${swings} - state.speed) * Math.min(1, dt / 0.15)
      state.turn += state.speed * dt
      servo.write(90 - 60 * Math.cos(2 * Math.PI * state.turn))
    }
    swing(0)
    every(1, swing)
    every(50, () => {
      state.step = (state.step + 1) % ${steps}
      if (state.step === 0) led.write(1 - led.value)
    })
  },
})
`

export const packageText = ({ version }: Pace): string =>
  `${JSON.stringify({ name: 'arm', version, type: 'module', main: 'program.js' })}\n`

export const boardText = (realtime: number): string =>
  JSON.stringify({
    name: 'rover',
    model: 'sim',
    handles: {
      led: { kind: 'output', line: 'GPIO17', safe: 0 },
      servo: { kind: 'servo', line: 'GPIO18', degrees: [0, 180], initial: 90, safe: 'hold' },
    },
    realtime,
  })
