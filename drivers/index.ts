/** Invariant: what `medulla/drivers` exports runs on the handle interfaces alone, and is small. */
export { Button, type ButtonOptions } from './devices/button.ts'
export { Display, type DisplayOptions } from './devices/display.ts'
export { Distance, type DistanceOptions } from './devices/distance.ts'
export { Eeprom, type EepromOptions } from './devices/eeprom.ts'
export { Encoder, type EncoderOptions } from './devices/encoder.ts'
export { type Climate, Environment, type EnvironmentOptions } from './devices/environment.ts'
export { type I2cBus, i2cBus, type PromisifiedI2cBus } from './devices/i2cbus.ts'
export { Imu, type ImuOptions, type Vector } from './devices/imu.ts'
export { Led } from './devices/led.ts'
export { LineSensor, type LineSensorOptions } from './devices/linesensor.ts'
export { Mcp3008, type Mcp3008Options } from './devices/mcp3008.ts'
export { Motor, type MotorOptions, type MotorPins } from './devices/motor.ts'
export { Pca9685, type Pca9685Options, type ServoCalibration } from './devices/pca9685.ts'
export { type Color, RgbLed, type RgbLedOptions } from './devices/rgbled.ts'
export { Servo, type ServoOptions, type SweepOptions } from './devices/servo.ts'
export { Sonar, type SonarOptions } from './devices/sonar.ts'
export { Stepper, type StepperMotion, type StepperOptions, type StepperPins } from './devices/stepper.ts'
export { HardwareError, type HardwareErrorKind } from './errors.ts'
export type {
  Analog,
  Edge,
  Handle,
  HandleByKind,
  HandleKind,
  I2cDevice,
  Input,
  Level,
  ListeningSocket,
  Output,
  Pwm,
  SerialPort,
  Servo as ServoHandle,
  SpiDevice,
  SupportedKind,
  Temperature,
} from './handle.ts'
