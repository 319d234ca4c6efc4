// Stands on two wheels: drives to where it is about to fall, 200 times a second.
import { robot } from 'medulla'
import { Imu, Motor } from 'medulla/drivers'

/** Degrees. Beyond, it lies on the floor, and the motors rest until somebody has held it upright for a second. */
const FALLEN = 45
const UPRIGHT = 5
const HELD_SECONDS = 1
/** Seconds over which the lean follows gravity and not the gyroscope: less drift, but more noise of the wheels. */
const SETTLE = 1

robot({
  needs: {
    leftPwm: 'pwm',
    leftDirection: 'output',
    rightPwm: 'pwm',
    rightDirection: 'output',
    imu: 'i2c',
  },
  // A new version must know all of it at its first tick: there is no time to find out again.
  state: {
    version: 1,
    initial: () => ({
      pitch: 0, // degrees; above 0 it leans forward
      integral: 0, // of the error, in degree seconds
      speed: 0, // what the wheels were told, smoothed: -1 to 1
      fallen: true, // somebody has to hold it upright first
      held: 0, // seconds for which it has been upright since it fell
    }),
  },
  params: {
    kp: { value: 0.1, min: 0, max: 0.5, unit: '1/°' }, // speed of the wheels per degree
    ki: { value: 0.6, min: 0, max: 3, unit: '1/(°s)' },
    kd: { value: 0.002, min: 0, max: 0.02, unit: 's/°' },
    // How far it leans back at full speed. This keeps it from running away.
    brake: { value: 6, min: 0, max: 15, unit: '°' },
    trim: { value: 0, min: -10, max: 10, unit: '°' }, // the lean at which it is in balance
  },
  run({ leftPwm, leftDirection, rightPwm, rightDirection, imu, state, params, info, every, health, log, onStop }) {
    const left = new Motor({ pwm: leftPwm, direction: leftDirection })
    // It is mounted the other way round.
    const right = new Motor({ pwm: rightPwm, direction: rightDirection }, { inverted: true })
    // After a swap it stands, and the filter goes on; after a crash it lies somewhere, and gravity says how.
    if (!info.tookOver) Object.assign(state, { fallen: true, held: 0 })
    // Sets the chip up at the very first start, and finds it so ever after: a swap writes nothing to it.
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
      // To slow down it must lean back, and for that it first drives a little faster.
      const error = state.pitch - params.trim + params.brake * state.speed
      // No more than what makes full speed: what it cannot do now it must not make up for later.
      state.integral = limited(state.integral + error * dt, 1 / params.ki)
      const speed = drive(params.kp * error + params.ki * state.integral + params.kd * sensor.gyro.y)
      state.speed += ((speed - state.speed) * dt) / (0.05 + dt)
    })

    // A version that lets it fall in its trial is undone.
    const lay = state.fallen
    health(() => lay || !state.fallen || 'it fell over')
    onStop(() => drive(0))
  },
})

const limited = (value: number, most: number) => Math.max(-most, Math.min(most, value))
