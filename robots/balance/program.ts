// Balances on two wheels: drives towards the side to which it leans, 200 times a second.
import { robot } from 'medulla'
import { Imu, Motor } from 'medulla/drivers'

/** Lean in degrees. Beyond it the robot lies on the floor, and the motors are off until it was held upright for a second. */
const FALLEN = 45
const UPRIGHT = 5
const HELD_SECONDS = 1
/** Seconds after which the measured lean follows gravity instead of the gyroscope. Less: less drift, more noise of the wheels. */
const SETTLE = 1

robot({
  needs: {
    leftPwm: 'pwm',
    leftDirection: 'output',
    rightPwm: 'pwm',
    rightDirection: 'output',
    imu: 'i2c',
  },
  // A new version needs all of this at its first tick: there is no time to measure it again.
  state: {
    version: 1,
    initial: () => ({
      pitch: 0, // degrees; above 0 it leans forward
      integral: 0, // of the error, in degree seconds
      speed: 0, // the speed given to the wheels, smoothed: -1 to 1
      fallen: true, // it must be held upright before it balances
      held: 0, // seconds for which it was held upright since it fell
    }),
  },
  params: {
    kp: { value: 0.1, min: 0, max: 0.5, unit: '1/°' }, // speed of the wheels per degree
    ki: { value: 0.6, min: 0, max: 3, unit: '1/(°s)' },
    kd: { value: 0.002, min: 0, max: 0.02, unit: 's/°' },
    // How far it leans back at full speed, which keeps it from running away.
    brake: { value: 6, min: 0, max: 15, unit: '°' },
    trim: { value: 0, min: -10, max: 10, unit: '°' }, // the lean at which it is in balance
  },
  run({ leftPwm, leftDirection, rightPwm, rightDirection, imu, state, params, info, every, health, log, onStop }) {
    const left = new Motor({ pwm: leftPwm, direction: leftDirection })
    // This motor is mounted the other way round.
    const right = new Motor({ pwm: rightPwm, direction: rightDirection }, { inverted: true })
    // After a swap the robot stands, and the filter goes on. After a crash it lies on the floor: measure gravity first.
    if (!info.tookOver) Object.assign(state, { fallen: true, held: 0 })
    // Only the very first start sets the chip up: after a swap Imu finds it set up and writes nothing.
    const settings = { gyroRange: 500, settleSeconds: SETTLE } as const
    const sensor = new Imu(imu, info.tookOver ? { ...settings, pitch: state.pitch } : settings)

    const drive = (speed: number) => {
      const within = limited(speed, 1)
      left.run(within)
      right.run(within)
      return within
    }

    every(5, (dt) => {
      sensor.tick(dt)
      state.pitch = sensor.pitch
      if (state.fallen) {
        state.held = Math.abs(state.pitch) < UPRIGHT ? state.held + dt : 0
        if (state.held < HELD_SECONDS) return
        Object.assign(state, { fallen: false, integral: 0, speed: 0, held: 0 })
        log('stands')
      }
      if (Math.abs(state.pitch) > FALLEN) {
        drive(0)
        state.fallen = true
        log(`fell over at ${state.pitch.toFixed(0)} degrees`, 'warn')
        return
      }
      // To slow down the robot must lean back, so it first drives a little faster.
      const error = state.pitch - params.trim + params.brake * state.speed
      // Limited to what gives full speed: an error that the motors cannot correct now must not build up.
      state.integral = limited(state.integral + error * dt, 1 / params.ki)
      const speed = drive(params.kp * error + params.ki * state.integral + params.kd * sensor.gyro.y)
      state.speed += ((speed - state.speed) * dt) / (0.05 + dt)
    })

    // A new version that lets the robot fall in its trial is undone.
    const lay = state.fallen
    health(() => lay || !state.fallen || 'it fell over')
    onStop(() => drive(0))
  },
})

const limited = (value: number, most: number) => Math.max(-most, Math.min(most, value))
