/**
 * Watches changes of lines by the GPIO character device: requested, released, reconfigured. The kernel keeps 32 such
 * events for a watcher and drops later ones, so this is for tests that expect few or none
 * (Documentation/userspace-api/gpio/gpio-v2-lineinfo-changed-read.rst).
 */
import { closeSync, constants, openSync, readSync } from 'node:fs'
import koffi from 'koffi'

/** _IOWR(0xB4, 0x06, struct gpio_v2_line_info), in include/uapi/linux/gpio.h */
const GPIO_V2_GET_LINEINFO_WATCH = 0xc100b406
/** struct gpio_v2_line_info, and struct gpio_v2_line_info_changed that begins with it */
const INFO = { size: 256, consumer: 32, offset: 64 }
const CHANGED = { size: 288, timestamp: 256, type: 264 }
const TYPES = { 1: 'requested', 2: 'released', 3: 'configured' } as const

export interface LineChange {
  readonly line: number
  readonly change: 'requested' | 'released' | 'configured'
  /** Nanoseconds of CLOCK_MONOTONIC. */
  readonly ns: bigint
  /** Consumer of the line after the change; empty when there is none. */
  readonly consumer: string
}

export interface LineWatch {
  /** Changes since the last call. */
  changes(): LineChange[]
  close(): void
}

/** Watches lines of gpiochip0. This opens the device, which a trace records, too. */
export function watchLines(lines: readonly number[]): LineWatch {
  const ioctl = koffi.load('libc.so.6').func('int ioctl(int fd, unsigned long request, _Inout_ uint8_t *info)')
  const fd = openSync('/dev/gpiochip0', constants.O_RDWR | constants.O_NONBLOCK)
  for (const line of lines) {
    const info = Buffer.alloc(INFO.size)
    info.writeUInt32LE(line, INFO.offset)
    if (ioctl(fd, GPIO_V2_GET_LINEINFO_WATCH, info) !== 0) {
      closeSync(fd)
      throw new Error(`line ${line} cannot be watched: errno ${koffi.errno()}`)
    }
  }
  return { changes: () => readAll(fd), close: () => closeSync(fd) }
}

function readAll(fd: number): LineChange[] {
  const changes: LineChange[] = []
  const bytes = Buffer.alloc(CHANGED.size * 32)
  for (;;) {
    const length = readSome(fd, bytes)
    if (length === 0) return changes
    for (let at = 0; at < length; at += CHANGED.size) changes.push(parse(bytes.subarray(at, at + CHANGED.size)))
  }
}

/** 0 when there is nothing to read. */
function readSome(fd: number, bytes: Buffer): number {
  try {
    return readSync(fd, bytes)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0
    throw error
  }
}

function parse(event: Buffer): LineChange {
  const type = event.readUInt32LE(CHANGED.type)
  if (type !== 1 && type !== 2 && type !== 3) throw new Error(`expected a change of type 1 to 3, got ${type}`)
  const consumer = event.toString('utf8', INFO.consumer, INFO.offset)
  return {
    line: event.readUInt32LE(INFO.offset),
    change: TYPES[type],
    ns: event.readBigUInt64LE(CHANGED.timestamp),
    consumer: consumer.slice(0, consumer.indexOf('\0')),
  }
}
