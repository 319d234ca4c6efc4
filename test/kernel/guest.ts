/**
 * Access to the rig's hardware from outside (rig.mjs): pulls lines, reads outputs, reads and resets the
 * counters of the chips. It uses files of the kernel that no robot program uses. trace.ts records which process did
 * what, when.
 */
import { openSync, readdirSync, readFileSync, readSync, writeFileSync } from 'node:fs'

/** True in the guest; every function here throws outside of it. */
export const inRig = process.env.MEDULLA_RIG === '1'

/** True in user-mode Linux, where that differs from QEMU. */
export const inUml = process.env.MEDULLA_RIG_MACHINE === 'uml'

/** gpio-sim's folder of each line (Documentation/admin-guide/gpio/gpio-sim.rst). */
const LINES = '/sys/devices/platform/gpio-sim.0/gpiochip0'
/** Counters of modules/medulla_i2c.c, medulla_pwm.c and medulla_spi.c. */
const I2C = '/sys/kernel/debug/medulla_i2c'
const PWM = '/sys/kernel/debug/medulla_pwm'
const SPI = '/sys/kernel/debug/medulla_spi'

/**
 * gpio-sim merges toggles of a line that are closer than this. It reports them by irq_work, which user-mode Linux runs at its
 * next tick, so at most 10 ms later.
 */
const PULL_GAP_MS = inUml ? 15 : 3

export type Level = 0 | 1

const pulled = new Map<number, number>()

/**
 * Pulls an input up or down from outside, as a switch would: the kernel sees the edge. Waits so that two pulls of a line
 * are far enough apart. While the line is an output, the pull has no effect.
 */
export function pull(line: number, level: Level): void {
  const wait = (pulled.get(line) ?? 0) + PULL_GAP_MS - performance.now()
  if (wait > 0) sleepMs(wait)
  writeFileSync(`${LINES}/sim_gpio${line}/pull`, level === 1 ? 'pull-up' : 'pull-down')
  pulled.set(line, performance.now())
}

/** The level of a line as a meter would show it: the driven level of an output, the pull of an input. */
export function levelOf(line: number): Level {
  return readFileSync(`${LINES}/sim_gpio${line}/value`, 'utf8').trim() === '1' ? 1 : 0
}

/** The same with one system call for each reading, for frequent readings; the file stays open. */
export function levelReader(line: number): () => Level {
  const fd = openSync(`${LINES}/sim_gpio${line}/value`, 'r')
  const byte = new Uint8Array(1)
  return () => {
    readSync(fd, byte, 0, 1, 0)
    return byte[0] === 0x31 ? 1 : 0
  }
}

/**
 * Consumers of lines in use: the lines that debugfs does not show as `<unused>`. Linux numbers them there
 * from the chip's base, and since 6.17 from 0; the chip's own line above them says which.
 */
export function heldLines(): Map<number, string> {
  const text = readFileSync('/sys/kernel/debug/gpio', 'utf8')
  const first = Number(/^gpiochip0: GPIOs (\d+)-\d+/m.exec(text)?.[1] ?? 0)
  const held = new Map<number, string>()
  for (const match of text.matchAll(/^ gpio-(\d+) +\((.*)\) (?:in|out)put/gm)) {
    const [, line = '', consumer = ''] = match
    if (consumer !== '<unused>') held.set(Number(line) - first, consumer)
  }
  return held
}

let base: number | undefined

/** The number of GPIO0 in /sys/class/gpio and in traces. */
export function gpioBase(): number {
  base ??= readdirSync('/sys/class/gpio')
    .filter((name) => name.startsWith('gpiochip'))
    .map((name) => number(`/sys/class/gpio/${name}/base`))[0]
  if (base === undefined) throw new Error('expected a chip in /sys/class/gpio, got none')
  return base
}

export interface I2cCounts {
  /** Transfers (one or more messages, then a stop) that reached the chip. */
  readonly transfers: number
  /** Bytes read. */
  readonly reads: number
  /** Registers written. */
  readonly writes: number
  /** Writes to registers that are written only at initialisation (PWR_MGMT_1 of an MPU6050). */
  readonly inits: number
}

/**
 * Counters of a chip since the start or the last reset. Chips: bus 1 has 0x40 (PCA9685), 0x68 (MPU6050), 0x76 (BME280);
 * bus 2 has 0x50 (24C32), 0x69 (MPU6050).
 */
export function i2cCounts(bus: number, address: number): I2cCounts {
  const folder = i2cFolder(bus, address)
  return {
    transfers: number(`${folder}/transfers`),
    reads: number(`${folder}/reads`),
    writes: number(`${folder}/writes`),
    inits: number(`${folder}/inits`),
  }
}

export function resetI2cCounts(bus: number, address: number): void {
  zero(i2cFolder(bus, address), ['transfers', 'reads', 'writes', 'inits', 'nack'])
}

/** Reads the register file without a transfer. */
export function i2cRegisters(bus: number, address: number): Buffer {
  return readFileSync(`${i2cFolder(bus, address)}/registers`)
}

/** Lets the chip not acknowledge the next `count` transfers. */
export function nackI2c(bus: number, address: number, count: number): void {
  writeFileSync(`${i2cFolder(bus, address)}/nack`, String(count))
}

/**
 * Makes each transfer with the chip take this time, as with a chip that holds the clock line down. The waiting thread
 * is in state D, which no signal ends. 0 switches this off and ends the wait.
 */
export function stretchI2c(bus: number, address: number, ms: number): void {
  writeFileSync(`${i2cFolder(bus, address)}/stretch_ms`, String(ms))
}

export interface PwmRecord {
  /** The state last applied. */
  readonly periodNs: number
  readonly dutyNs: number
  readonly enabled: boolean
  readonly inverted: boolean
  /** How often a state was applied, and how often that changed each value. */
  readonly applies: number
  readonly periodChanges: number
  readonly dutyChanges: number
  readonly enabledChanges: number
  readonly invertedChanges: number
  /** How often the channel was exported, and unexported. */
  readonly requests: number
  readonly frees: number
}

/** State and counters of channel 0 to 3 of pwmchip0. */
export function pwmRecord(channel: number): PwmRecord {
  const read = (name: string) => number(`${PWM}/${channel}/${name}`)
  return {
    periodNs: read('period_ns'),
    dutyNs: read('duty_ns'),
    enabled: read('enabled') === 1,
    inverted: read('inverted') === 1,
    applies: read('applies'),
    periodChanges: read('period_changes'),
    dutyChanges: read('duty_changes'),
    enabledChanges: read('enabled_changes'),
    invertedChanges: read('inverted_changes'),
    requests: read('requests'),
    frees: read('frees'),
  }
}

export function resetPwmRecord(channel: number): void {
  const changes = ['period', 'duty', 'enabled', 'inverted'].map((name) => `${name}_changes`)
  zero(`${PWM}/${channel}`, ['applies', 'requests', 'frees', ...changes])
}

/** Counters of transfers and bytes over spidev0.0 and spidev0.1. */
export function spiCounts(): { readonly transfers: number; readonly bytes: number } {
  return { transfers: number(`${SPI}/transfers`), bytes: number(`${SPI}/bytes`) }
}

/** Blocks the thread. */
export function sleepMs(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

function i2cFolder(bus: number, address: number): string {
  return `${I2C}/${bus}-${address.toString(16).padStart(4, '0')}`
}

/** debugfs gives decimal numbers (debugfs_create_u32). */
function number(path: string): number {
  return Number(readFileSync(path, 'utf8'))
}

function zero(folder: string, names: readonly string[]): void {
  for (const name of names) writeFileSync(`${folder}/${name}`, '0')
}
