/** Invariant: what `medulla/drivers` exports runs on the handle interfaces alone, and is small. */
export { Button, type ButtonOptions } from './devices/button.ts'
export { Led } from './devices/led.ts'
export { Servo, type ServoOptions } from './devices/servo.ts'
export { HardwareError, type HardwareErrorKind } from './errors.ts'
export type {
  Edge,
  Handle,
  HandleByKind,
  HandleKind,
  I2cDevice,
  Input,
  Level,
  Output,
  Pwm,
  SupportedKind,
} from './handle.ts'
