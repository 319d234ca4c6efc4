/** The package has no types. */
declare module 'vl53l0x' {
  import type { PromisifiedI2cBus } from 'medulla/drivers'

  interface Sensor {
    measure(): Promise<number>
    getSignalRateLimit(): Promise<number>
    getMeasurementTimingBudget(): Promise<number>
    setMeasurementTimingBudget(us: number): Promise<boolean>
    getVcselPulsePeriod(register: number): Promise<number>
    setVcselPulsePeriod(type: 'pre' | 'final', pclks: number): Promise<void>
    readonly io: { readReg(register: number): Promise<number> }
  }
  export default function open(bus: PromisifiedI2cBus, address?: number): Sensor
}
