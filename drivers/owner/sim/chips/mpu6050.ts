/**
 * Model of the motion sensor MPU6050, after "MPU-6000 and MPU-6050 Register Map and Descriptions", revision 4.2
 * (RM-MPU-6000A; section numbers are those of the document).
 *
 * Modelled: registers and their reset values, sleep, device reset, full-scale ranges, burst reads with auto-increment,
 * the temperature. Not modelled: FIFO, interrupts, self-test, the sample clock (data is always the newest).
 */
import { type ChipModel, type ChipState, isWithin, type TransferResult } from './chip.ts'
import { type Registers, readFrom, writeFrom, written } from './registers.ts'

const MPU6050_ADDRESS = 0x68

const GYRO_CONFIG = 0x1b
const ACCEL_CONFIG = 0x1c
const ACCEL_XOUT_H = 0x3b
const TEMP_OUT_H = 0x41
const GYRO_XOUT_H = 0x43
const GYRO_ZOUT_L = 0x48
const PWR_MGMT_1 = 0x6b
const WHO_AM_I = 0x75
const REGISTERS = 0x80

const DEVICE_RESET = 0x80
const SLEEP = 0x40
const TEMP_DIS = 0x08

/** 4.17: LSB per g for AFS_SEL 0..3 (2, 4, 8, 16 g). */
const ACCEL_LSB = [16384, 8192, 4096, 2048] as const
/** 4.19: LSB per degree/s for FS_SEL 0..3 (250, 500, 1000, 2000 degrees/s). */
const GYRO_LSB = [131, 65.5, 32.8, 16.4] as const

type Vector = readonly [number, number, number]

export interface Mpu6050State extends Registers {
  /** g */
  readonly accel: Vector
  /** degrees/s */
  readonly gyro: Vector
  /** degrees C */
  readonly temp: number
  /** Number of writes to PWR_MGMT_1: a test sees here whether the chip was initialised again. */
  readonly initWrites: number
}

/** Section 3: after a reset all registers are 0, except 107 (0x40, asleep) and 117 (0x68). */
function resetRegisters(): Uint8Array {
  const registers = new Uint8Array(REGISTERS)
  registers[PWR_MGMT_1] = SLEEP
  registers[WHO_AM_I] = MPU6050_ADDRESS
  return registers
}

const initial: Mpu6050State = {
  registers: resetRegisters(),
  pointer: 0,
  accel: [0, 0, 1],
  gyro: [0, 0, 0],
  temp: 25,
  initWrites: 0,
}

/** Stores a measurement: 16 bits, two's complement, big endian, saturated (4.17 to 4.19). */
function put(view: DataView, at: number, value: number): void {
  view.setInt16(at, Math.max(-32768, Math.min(32767, Math.round(value))))
}

/** Updates the data registers while the chip is awake; in sleep they keep their values (4.28). */
function measured(chip: Mpu6050State): Mpu6050State {
  const power = chip.registers[PWR_MGMT_1] as number
  if (power & SLEEP) return chip
  const registers = chip.registers.slice()
  const view = new DataView(registers.buffer)
  const accelLsb = ACCEL_LSB[((registers[ACCEL_CONFIG] as number) >> 3) & 3] as number
  const gyroLsb = GYRO_LSB[((registers[GYRO_CONFIG] as number) >> 3) & 3] as number
  for (const axis of [0, 1, 2] as const) {
    put(view, ACCEL_XOUT_H + 2 * axis, chip.accel[axis] * accelLsb)
    put(view, GYRO_XOUT_H + 2 * axis, chip.gyro[axis] * gyroLsb)
  }
  // 4.18: degrees C = TEMP_OUT / 340 + 36.53
  if (!(power & TEMP_DIS)) put(view, TEMP_OUT_H, (chip.temp - 36.53) * 340)
  return { ...chip, registers }
}

function isReadOnly(register: number): boolean {
  return (register >= ACCEL_XOUT_H && register <= GYRO_ZOUT_L) || register === WHO_AM_I
}

function write(chip: Mpu6050State, bytes: Uint8Array): TransferResult<Mpu6050State> {
  let { initWrites } = chip
  const next = writeFrom(chip, bytes, (registers, at, value) => {
    if (at === PWR_MGMT_1) {
      initWrites++
      if (value & DEVICE_RESET) registers.set(resetRegisters())
      else registers[at] = value
    } else if (!isReadOnly(at)) registers[at] = value
    return (at + 1) % REGISTERS
  })
  return written(next.registers === chip.registers ? next : measured({ ...next, initWrites }))
}

function snapshot(chip: Mpu6050State): ChipState {
  const asleep = ((chip.registers[PWR_MGMT_1] as number) & SLEEP) !== 0
  const { accel, gyro, temp, initWrites } = chip
  return { asleep, accel, gyro, temp, initWrites }
}

/** `accel` in g and `gyro` in degrees/s, each [x, y, z]; `temp` in degrees C. */
function poke(chip: Mpu6050State, what: string, value: unknown): Mpu6050State | null {
  if ((what === 'accel' || what === 'gyro') && isVector(value)) return measured({ ...chip, [what]: value })
  if (what === 'temp' && isWithin(value, -273.15, 1000)) return measured({ ...chip, temp: value })
  return null
}

function isVector(value: unknown): value is Vector {
  return Array.isArray(value) && value.length === 3 && value.every((each) => Number.isFinite(each))
}

export const mpu6050: ChipModel<Mpu6050State> = {
  initial,
  write,
  read: (chip, length) => readFrom(chip, length),
  snapshot,
  poke,
}
