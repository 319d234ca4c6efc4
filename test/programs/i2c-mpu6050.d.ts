/** What is used of the package here; it brings no types. */
declare module 'i2c-mpu6050' {
  import type { I2cBus } from 'medulla/drivers'

  interface Vector {
    x: number
    y: number
    z: number
  }
  interface Measured {
    gyro: Vector
    accel: Vector
    temp: number
    rotation: { x: number; y: number }
  }
  export default class Sensor {
    constructor(bus: I2cBus, address: number)
    readSync(): Measured
    read(done: (error: Error | null, measured: Measured) => void): void
  }
}
