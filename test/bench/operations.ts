/** Invariant: what is measured here is the same for every way it is done. */
import type { Grant } from '../../drivers/program/handle.ts'

export const OPERATIONS = ['value', 'line', 'i2c-write', 'i2c-write-byte', 'i2c-read', 'record'] as const
export type Operation = (typeof OPERATIONS)[number]
export const WAYS = ['inherited', 'in-process', 'brokered'] as const
export type Way = (typeof WAYS)[number]

/** Devices of a kernel; or none, and descriptors that stand for them. */
export type Devices = 'kernel' | 'none'

export interface Task {
  operation: Operation
  way: Way
  devices: Devices
  /** Operations in a sample. */
  batch: number
  grant: Omit<Grant, 'via' | 'fd'>
}

/** Of an MPU6050: SMPLRT_DIV, and ACCEL_XOUT_H to ACCEL_ZOUT_L. */
export const REGISTER = 0x19
export const BLOCK = { register: 0x3b, length: 6 } as const
export const IMU = { bus: 1, address: 0x68 } as const

/** FIONCLEX (asm-generic/ioctls.h): it clears a flag of the descriptor itself. */
export const HARMLESS_IOCTL = 0x5450

/** Lines of the rig: those that are granted, and those that a process opens for itself. */
export const LINES = { value: 'GPIO20', line: 'GPIO21', ownValue: 'GPIO23', ownLine: 'GPIO24' } as const
