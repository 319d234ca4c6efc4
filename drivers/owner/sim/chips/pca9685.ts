/**
 * Model of the PWM controller PCA9685, after the data sheet "PCA9685, 16-channel, 12-bit PWM Fm+ I2C-bus LED
 * controller", revision 4 (NXP; section numbers are those of the data sheet).
 *
 * Modelled: registers and their reset values, sleep and restart, the prescaler's lock, all-channel writes,
 * auto-increment, an inexact oscillator. Not modelled: sub-addresses, the external clock, the outputs' drivers.
 */
import { type ChipModel, type ChipState, isWithin, type TransferResult } from './chip.ts'
import { type Registers, readFrom, writeFrom, written } from './registers.ts'

const MODE1 = 0x00
const MODE2 = 0x01
const LED0_ON_L = 0x06
const LED15_OFF_H = 0x45
const ALL_LED_ON_L = 0xfa
const ALL_LED_OFF_H = 0xfd
const PRE_SCALE = 0xfe
const REGISTERS = 0x100
const CHANNELS = 16

/** 7.3.1, MODE1 */
const RESTART = 0x80
const AUTO_INCREMENT = 0x20
const SLEEP = 0x10
/** 7.3.3: bit 4 of LEDn_OFF_H is full off, of LEDn_ON_H full on; full off overrides full on. */
const FULL = 0x10
/** 7.3.5 */
const OSCILLATOR_HZ = 25_000_000
const STEPS = 4096
const LEAST_PRESCALE = 3

export interface Pca9685State extends Registers {
  /** Number of writes to MODE1, MODE2 and PRE_SCALE: a test sees here whether the chip was initialised again. */
  readonly initWrites: number
  /** 25 MHz nominal; real chips differ. */
  readonly oscillatorHz: number
}

/** Tables 5 to 8: asleep, answering the all-call address, totem pole, every channel full off, 200 Hz. */
function resetRegisters(): Uint8Array {
  const registers = new Uint8Array(REGISTERS)
  registers[MODE1] = SLEEP | 0x01
  registers[MODE2] = 0x04
  registers.set([0xe2, 0xe4, 0xe8, 0xe0], 0x02)
  for (let channel = 0; channel < CHANNELS; channel++) registers[LED0_ON_L + 4 * channel + 3] = FULL
  registers[PRE_SCALE] = 0x1e
  return registers
}

const initial: Pca9685State = { registers: resetRegisters(), pointer: 0, initWrites: 0, oscillatorHz: OSCILLATOR_HZ }

function write(chip: Pca9685State, bytes: Uint8Array): TransferResult<Pca9685State> {
  let { initWrites } = chip
  const next = writeFrom(chip, bytes, (registers, at, value) => {
    if (at === MODE1 || at === MODE2 || at === PRE_SCALE) initWrites++
    put(registers, at, value)
    return following(registers, at)
  })
  return written({ ...next, initWrites })
}

function put(registers: Uint8Array, at: number, value: number): void {
  const mode = registers[MODE1] as number
  if (at === MODE1) {
    // 7.3.1.1: RESTART is set when a running chip is put to sleep; writing 1 clears it, writing 0 has no effect
    const runs = (mode & SLEEP) === 0
    const restart = value & RESTART ? 0 : (mode & RESTART) | (runs && value & SLEEP ? RESTART : 0)
    registers[at] = (value & ~RESTART) | restart
  } else if (at === PRE_SCALE) {
    // 7.3.5: locked while the oscillator runs
    if (mode & SLEEP) registers[at] = Math.max(LEAST_PRESCALE, value)
  } else if (at >= ALL_LED_ON_L && at <= ALL_LED_OFF_H) {
    for (let channel = 0; channel < CHANNELS; channel++) registers[LED0_ON_L + 4 * channel + at - ALL_LED_ON_L] = value
  } else if (at <= LED15_OFF_H) registers[at] = value
}

/** 7.3: with auto-increment, the pointer rolls over after LED15_OFF_H. */
function following(registers: Uint8Array, at: number): number {
  if (((registers[MODE1] as number) & AUTO_INCREMENT) === 0) return at
  return at === LED15_OFF_H ? 0 : (at + 1) % REGISTERS
}

function read(chip: Pca9685State, length: number): TransferResult<Pca9685State> {
  const { registers } = chip
  // table 4: the all-channel registers read as 0
  const value = (at: number) => (at >= ALL_LED_ON_L && at <= ALL_LED_OFF_H ? 0 : (registers[at] as number))
  return readFrom(chip, length, (at) => following(registers, at), value)
}

/** The duty cycle of a channel. */
function dutyOf(registers: Uint8Array, channel: number): number {
  const at = LED0_ON_L + 4 * channel
  const [onLow = 0, onHigh = 0, offLow = 0, offHigh = 0] = registers.subarray(at, at + 4)
  if (offHigh & FULL) return 0
  if (onHigh & FULL) return 1
  const on = ((onHigh & 0x0f) << 8) | onLow
  const off = ((offHigh & 0x0f) << 8) | offLow
  return ((off - on + STEPS) % STEPS) / STEPS
}

function snapshot({ registers, initWrites, oscillatorHz }: Pca9685State): ChipState {
  const asleep = ((registers[MODE1] as number) & SLEEP) !== 0
  const frequencyHz = oscillatorHz / (STEPS * ((registers[PRE_SCALE] as number) + 1))
  const duties = Array.from({ length: CHANNELS }, (_, channel) => (asleep ? 0 : dutyOf(registers, channel)))
  return { asleep, frequencyHz, duties, initWrites }
}

/** `oscillator`: Hz. */
function poke(chip: Pca9685State, what: string, value: unknown): Pca9685State | null {
  return what === 'oscillator' && isWithin(value, 1e6, 50e6) ? { ...chip, oscillatorHz: value } : null
}

export const pca9685: ChipModel<Pca9685State> = { initial, write, read, snapshot, poke }
