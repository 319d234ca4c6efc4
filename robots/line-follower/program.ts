// Follows a dark line: the further the line is to one side, the more the wheels turn towards it.
import { robot } from 'medulla'
import { LineSensor, Motor } from 'medulla/drivers'

/** Seconds without a line: up to GAP it may be a gap in the line, then the robot searches, after GIVE_UP it stops. */
const GAP = 0.15
const GIVE_UP = 3
/** Speed and turn during the search, as parts of full speed: a circle to the side where the line was last. */
const SEARCH = { speed: 0.25, turn: 0.2 }
/** Seconds over which the slope is smoothed, because the position of eight sensors moves in steps. */
const SMOOTH = 0.03

robot({
  needs: {
    leftPwm: 'pwm',
    leftDirection: 'output',
    rightPwm: 'pwm',
    rightDirection: 'output',
    bar: 'i2c',
  },
  // The controller's memory: with it a new version steers on from where the old one was.
  state: {
    version: 1,
    initial: () => ({
      position: 0, // last position of the line: -1 is the left end of the bar, 1 the right end
      integral: 0, // of the position, in seconds
      slope: 0, // of the position, per second
      lost: GIVE_UP, // seconds without a line; from the start given up, so a robot put down beside the line stays there
    }),
  },
  params: {
    speed: { value: 0.45, min: 0, max: 0.8 }, // fraction of full speed
    kp: { value: 0.35, min: 0, max: 2 }, // speed of a wheel per position
    ki: { value: 0.1, min: 0, max: 2, unit: '1/s' },
    kd: { value: 0.03, min: 0, max: 0.5, unit: 's' },
  },
  run({ leftPwm, leftDirection, rightPwm, rightDirection, bar, state, params, every, health, log, onStop }) {
    const left = new Motor({ pwm: leftPwm, direction: leftDirection })
    const right = new Motor({ pwm: rightPwm, direction: rightDirection })
    const sensor = new LineSensor(bar)

    /** `turn` above 0 is to the right. */
    const drive = (speed: number, turn: number) => {
      left.run(limited(speed + turn))
      right.run(limited(speed - turn))
    }

    every(10, (dt) => {
      const seen = sensor.position()
      if (seen === null) {
        const before = state.lost
        state.lost += dt
        if (state.lost < GAP) return // the motors keep their speeds
        state.integral = 0
        if (state.lost < GIVE_UP) {
          return drive(SEARCH.speed, state.position < 0 ? -SEARCH.turn : SEARCH.turn)
        }
        if (before < GIVE_UP) log('no line: waiting for one', 'warn')
        return drive(0, 0)
      }
      if (state.lost >= GIVE_UP) log('follows the line')
      // after a gap the old position is too old for a slope
      const slope = state.lost > 0 ? 0 : (seen - state.position) / dt
      state.slope += ((slope - state.slope) * dt) / (SMOOTH + dt)
      state.integral = limited(state.integral + seen * dt)
      state.position = seen
      state.lost = 0
      drive(params.speed, params.kp * seen + params.ki * state.integral + params.kd * state.slope)
    })

    // A new version that loses the line in its trial is undone, and the previous version goes on.
    const began = state.lost
    health(() => state.lost < 2 * GAP || began > 0 || 'it has lost the line')
    onStop(() => drive(0, 0))
  },
})

const limited = (value: number) => Math.max(-1, Math.min(1, value))
