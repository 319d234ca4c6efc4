/**
 * Model of the analog-to-digital converter ADS1115, after the data sheet "ADS111x, low-power, 16-bit analog-to-digital
 * converters", revision E (TI SBAS444E; its section names are quoted below).
 *
 * Modelled: the four registers and their reset values, the multiplexer, full-scale ranges, single-shot and continuous
 * conversion. Not modelled: the time of a conversion (none), the comparator, the general call.
 */
import { type ChipModel, type ChipState, isWithin, NO_BYTES, type TransferResult } from './chip.ts'

const CONVERSION = 0
const CONFIG = 1
/** "Config Register" */
const OS = 0x8000
const SINGLE_SHOT = 0x0100
/** MUX 0 to 3: the difference of two inputs; 4 to 7: one input against ground. */
const PAIRS = [
  [0, 1],
  [0, 3],
  [1, 3],
  [2, 3],
] as const
/** V for PGA 0 to 7. */
const FULL_SCALE = [6.144, 4.096, 2.048, 1.024, 0.512, 0.256, 0.256, 0.256] as const

/** V; "Absolute Maximum Ratings", with a supply of 5.5 V */
const INPUT = [-0.3, 5.8] as const

type Volts = readonly [number, number, number, number]

export interface Ads1115State {
  /** In this order: conversion, config, low threshold, high threshold. */
  readonly registers: readonly number[]
  readonly pointer: number
  /** V of the four inputs against ground. */
  readonly volts: Volts
  readonly conversions: number
}

const initial: Ads1115State = {
  registers: [0, 0x8583, 0x8000, 0x7fff],
  pointer: 0,
  volts: [0, 0, 0, 0],
  conversions: 0,
}

/** "Data Format": two's complement, clipped at both ends. */
function code(config: number, volts: Volts): number {
  const mux = (config >> 12) & 7
  const [plus, minus] = PAIRS[mux] ?? [mux - PAIRS.length, null]
  const across = (volts[plus] ?? 0) - (minus === null ? 0 : volts[minus])
  const steps = Math.round((across / (FULL_SCALE[(config >> 9) & 7] as number)) * 0x8000)
  return Math.max(-0x8000, Math.min(0x7fff, steps)) & 0xffff
}

function converted(chip: Ads1115State): Ads1115State {
  const [, config = 0, ...thresholds] = chip.registers
  return {
    ...chip,
    registers: [code(config, chip.volts), config, ...thresholds],
    conversions: chip.conversions + 1,
  }
}

const runs = (chip: Ads1115State): boolean => ((chip.registers[CONFIG] as number) & SINGLE_SHOT) === 0

/** A write is a pointer, or a pointer and the two bytes of a register. */
function write(chip: Ads1115State, bytes: Uint8Array): TransferResult<Ads1115State> {
  const [first, high, low] = bytes
  if (first === undefined) return { next: chip, bytes: NO_BYTES }
  const pointer = first & 3
  const pointed = { ...chip, pointer }
  if (high === undefined || low === undefined || pointer === CONVERSION) return { next: pointed, bytes: NO_BYTES }
  const value = (high << 8) | low
  // read back, OS 1 means that no conversion is running; in continuous mode one always is
  const stored = pointer !== CONFIG ? value : value & SINGLE_SHOT ? value | OS : value & ~OS
  const next = { ...pointed, registers: chip.registers.with(pointer, stored) }
  const starts = pointer === CONFIG && (value & OS || runs(next))
  return { next: starts ? converted(next) : next, bytes: NO_BYTES }
}

/** A register has two bytes; after them nobody drives the bus, which reads as ones. */
function read(chip: Ads1115State, length: number): TransferResult<Ads1115State> {
  const next = runs(chip) ? converted(chip) : chip
  const value = next.registers[next.pointer] as number
  const bytes = new Uint8Array(length).fill(0xff)
  bytes.set([value >> 8, value & 0xff].slice(0, length))
  return { next, bytes }
}

function snapshot({ volts, conversions }: Ads1115State): ChipState {
  return { volts, conversions }
}

/** `volts`: a list for all four inputs; `ain0` to `ain3`: V of one input. */
function poke(chip: Ads1115State, what: string, value: unknown): Ads1115State | null {
  if (what === 'volts' && isVolts(value)) return { ...chip, volts: value }
  const input = ['ain0', 'ain1', 'ain2', 'ain3'].indexOf(what)
  if (input >= 0 && isWithin(value, ...INPUT)) {
    return { ...chip, volts: chip.volts.with(input, value) as unknown as Volts }
  }
  return null
}

function isVolts(value: unknown): value is Volts {
  return Array.isArray(value) && value.length === 4 && value.every((each) => isWithin(each, ...INPUT))
}

export const ads1115: ChipModel<Ads1115State> = { initial, write, read, snapshot, poke }
