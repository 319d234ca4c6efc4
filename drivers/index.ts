/** Invariant: what `medulla/drivers` exports runs on the handle interfaces alone, and is small. */
export { Button, type ButtonOptions } from './devices/button.ts'
export { type I2cBus, i2cBus, type PromisifiedI2cBus } from './devices/i2cbus.ts'
export { Led } from './devices/led.ts'
export { Pca9685, type Pca9685Options } from './devices/pca9685.ts'
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
  SerialPort,
  Servo as ServoHandle,
  SpiDevice,
  SupportedKind,
} from './handle.ts'
