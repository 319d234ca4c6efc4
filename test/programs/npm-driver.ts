// A chip driver from npm, made for the package i2c-bus, unchanged.
import Sensor from 'i2c-mpu6050'
import { robot } from 'medulla'
import { i2cBus } from 'medulla/drivers'

robot({
  needs: { led: 'output', imu: 'i2c' },
  state: { version: 1, initial: () => ({ readings: 0 }) },
  run({ led, imu, state, every, log }) {
    const sensor = new Sensor(i2cBus(imu), imu.address)
    every(10, () => {
      const { accel, temp } = sensor.readSync()
      state.readings++
      led.write(accel.z > 0.9)
      if (state.readings % 10 === 0) log(`reading ${state.readings}: z ${accel.z} g, ${temp.toFixed(1)} C`)
    })
  },
})
