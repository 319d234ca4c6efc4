/** A servo: a kernel or pigpio PWM whose values are converted to and from degrees. */
import type { ServoEntry } from '../../board/types.ts'
import { degreesOf, dutyOf, pwmOf, scaleOf } from '../../program/servo.ts'
import type { OpenContext, OpenDevice } from './device.ts'
import { openPigpio } from './pigpio.ts'
import { openPwm } from './pwm.ts'

/** Rounding steps in a degree: one is about 1 ns of the pulse. */
const STEPS = 1e4

export function openServo(context: OpenContext<ServoEntry>, open = opener(context.entry)): OpenDevice {
  const scale = scaleOf(context.entry)
  const pwm = open({ ...context, entry: pwmOf(context.entry) })
  return {
    ...pwm,
    value() {
      const duty = pwm.value?.()
      // rounded, as the kernel keeps whole ns
      return duty === undefined ? undefined : Math.round(degreesOf(scale, duty) * STEPS) / STEPS
    },
    drive: (degrees) => pwm.drive?.(dutyOf(scale, degrees)),
  }
}

function opener({ driver }: ServoEntry): typeof openPwm {
  return (context) => (driver === 'pigpio' ? openPigpio(context) : openPwm(context))
}
