/** The module `medulla/drivers`: device drivers for programs, which use the hardware through handles only. */

export { HardwareError, type HardwareErrorKind } from './errors.ts'
export { Button, type ButtonOptions } from './program/devices/button.ts'
export { Display, type DisplayOptions } from './program/devices/display.ts'
export { Distance, type DistanceOptions } from './program/devices/distance.ts'
export { Eeprom, type EepromOptions } from './program/devices/eeprom.ts'
export { Encoder, type EncoderOptions } from './program/devices/encoder.ts'
export { type Climate, Environment, type EnvironmentOptions } from './program/devices/environment.ts'
export { type I2cBus, i2cBus, type PromisifiedI2cBus } from './program/devices/i2cbus.ts'
export { Imu, type ImuOptions, type Vector } from './program/devices/imu.ts'
export { Led } from './program/devices/led.ts'
export { LineSensor, type LineSensorOptions } from './program/devices/linesensor.ts'
export { Mcp3008, type Mcp3008Options } from './program/devices/mcp3008.ts'
export { Motor, type MotorOptions, type MotorPins } from './program/devices/motor.ts'
export { Pca9685, type Pca9685Options, type ServoCalibration } from './program/devices/pca9685.ts'
export { type Color, RgbLed, type RgbLedOptions } from './program/devices/rgbled.ts'
export { Servo, type ServoOptions, type SweepOptions } from './program/devices/servo.ts'
export { Sonar, type SonarOptions } from './program/devices/sonar.ts'
export { Stepper, type StepperMotion, type StepperOptions, type StepperPins } from './program/devices/stepper.ts'
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
} from './program/handle.ts'
