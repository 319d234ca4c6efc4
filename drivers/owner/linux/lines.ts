/**
 * Inputs and outputs through the GPIO character device, version 2 (Documentation/userspace-api/gpio/chardev.rst).
 *
 * A line is requested once, with all of its settings in that one call, so that it never has an unwanted level
 * (HANDLES 3.2, 11.2). The kernel releases the line when the last copy of its descriptor is closed, in any process.
 */
import { closeSync, openSync, readdirSync } from 'node:fs'
import type { InputEntry, OutputEntry } from '../../board/types.ts'
import { HardwareError, hardwareFault } from '../../errors.ts'
import { GPIO_V2_LINE_GET_VALUES_IOCTL, GPIO_V2_LINE_SET_VALUES_IOCTL, lineValues } from '../../program/inherit/line.ts'
import type { LineInfo } from '../backend.ts'
import type { LinuxBoard, OpenContext, OpenDevice } from './device.ts'
import { keptFd } from './faults.ts'
import type { LinuxSystem } from './system.ts'
import {
  CHIP_INFO_SIZE,
  type ChipInfo,
  decodeChipInfo,
  decodeLineInfo,
  encodeLineRequest,
  GPIO_GET_CHIPINFO_IOCTL,
  GPIO_V2_GET_LINE_IOCTL,
  GPIO_V2_GET_LINEINFO_IOCTL,
  LINE_FLAG,
  type LineRequest,
  type LineState,
  lineInfoOf,
  requestedFd,
} from './uapi.ts'

const CONSUMER = 'medulla:'
/** The most the kernel keeps (GPIO_V2_LINES_MAX * 16), so that a busy body loses no edges. */
const EVENTS = 1024

const BIAS = { up: LINE_FLAG.pullUp, down: LINE_FLAG.pullDown, none: LINE_FLAG.biasDisabled } as const
const DRIVE = { 'push-pull': 0n, 'open-drain': LINE_FLAG.openDrain, 'open-source': LINE_FLAG.openSource } as const
const EDGES = {
  rising: LINE_FLAG.edgeRising,
  falling: LINE_FLAG.edgeFalling,
  both: LINE_FLAG.edgeRising | LINE_FLAG.edgeFalling,
  none: 0n,
} as const

/** Every line of the board's chip with its consumer; empty when the chip does not exist. */
export function listLines(system: LinuxSystem, board: LinuxBoard): LineInfo[] {
  if (findChip(system, board) === null) return []
  return withChip(system, board, 'lines', (fd, { lines }) =>
    Array.from({ length: lines }, (_, offset) => {
      const { consumer, flags } = lineState(system, fd, offset)
      const used = (flags & LINE_FLAG.used) !== 0n
      // the kernel uses some lines without a consumer name
      return { line: `GPIO${offset}`, user: used ? consumer || '?' : null, kind: null }
    }),
  )
}

export function openOutput(context: OpenContext<OutputEntry>): OpenDevice {
  const { name, entry, system, kept } = context
  const fd =
    kept === undefined
      ? request(context, {
          flags: LINE_FLAG.output | DRIVE[entry.drive] | polarity(entry.activeLow),
          initial: entry.initial,
        })
      : keptFd(name, kept.fds)
  const values = [lineValues(0), lineValues(1)] as const
  return {
    source: { via: 'inherit', fd, encoding: 'line' },
    fds: [fd],
    value: reader(name, fd, system),
    drive(value) {
      fault(name, () => system.ioctl(fd, GPIO_V2_LINE_SET_VALUES_IOCTL, value ? values[1] : values[0]))
    },
    close: () => closeSync(fd),
  }
}

export function openInput(context: OpenContext<InputEntry>): OpenDevice {
  const { name, entry, system, kept, edges } = context
  const fd =
    kept === undefined
      ? request(context, {
          flags: LINE_FLAG.input | BIAS[entry.pull] | EDGES[entry.edges] | polarity(entry.activeLow),
          debounceUs: Math.round(entry.debounceMs * 1000),
          events: entry.edges === 'none' ? 0 : EVENTS,
        })
      : keptFd(name, kept.fds)
  // the body alone reads the edges: one that a program read would be lost (HANDLES 3.8, 11.4)
  const line = entry.edges === 'none' ? null : edges.follow(name, fd, kept?.seqno ?? 0)
  return {
    source: { via: 'inherit', fd, encoding: 'line' },
    fds: [fd],
    value: reader(name, fd, system),
    onEdge: (listener) => line?.onEdge(listener) ?? (() => {}),
    seqno: () => line?.seqno ?? 0,
    close() {
      line?.close()
      closeSync(fd)
    },
  }
}

function polarity(activeLow: boolean): bigint {
  return activeLow ? LINE_FLAG.activeLow : 0n
}

/** Reads the level of the line itself: an open drain that another device pulls low reads 0, whatever was written. */
function reader(name: string, fd: number, system: LinuxSystem): () => number {
  const got = lineValues(0)
  return () => {
    fault(name, () => system.ioctl(fd, GPIO_V2_LINE_GET_VALUES_IOCTL, got))
    return (got[0] as number) & 1
  }
}

function request(
  context: OpenContext<InputEntry | OutputEntry>,
  settings: Omit<LineRequest, 'offset' | 'consumer'>,
): number {
  const { name, entry, system, board } = context
  const offset = Number(entry.line.slice('GPIO'.length))
  return withChip(system, board, name, (fd, chip) => {
    if (offset >= chip.lines) {
      throw new HardwareError('no-device', `${name}: ${entry.line}: ${chip.label} has ${chip.lines} lines`)
    }
    const bytes = encodeLineRequest({ offset, consumer: `${CONSUMER}${name}`, ...settings })
    try {
      system.ioctl(fd, GPIO_V2_GET_LINE_IOCTL, bytes)
    } catch (error) {
      throw refused(context, error, () => lineState(system, fd, offset))
    }
    return requestedFd(bytes)
  })
}

/** The error of a refused request; for a line in use it names the consumer (HANDLES 11.3). */
function refused(
  { name, entry }: OpenContext<InputEntry | OutputEntry>,
  cause: unknown,
  readState: () => LineState,
): HardwareError {
  if ((cause as { code?: unknown }).code !== 'EBUSY') return hardwareFault(name, cause)
  let holder = 'the kernel'
  try {
    const { consumer } = readState()
    if (consumer !== '') holder = JSON.stringify(consumer)
  } catch {
    // the line's state is only for the message: "the kernel" stays
  }
  return new HardwareError('busy', `${name}: ${entry.line} is held by ${holder}`, { cause })
}

function fault<T>(name: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw hardwareFault(name, error)
  }
}

/** Opens the chip for the duration of `work`: a line that was requested through it outlives the chip's descriptor. */
function withChip<T>(system: LinuxSystem, board: LinuxBoard, name: string, work: (fd: number, chip: ChipInfo) => T): T {
  const path = findChip(system, board)
  if (path === null) {
    const missing = board.chip === undefined ? 'the board file has no "chip"' : `there is no GPIO chip ${board.chip}`
    throw new HardwareError('no-device', `${name}: ${missing}; this machine has ${chips(system)}`)
  }
  return onChip(system, path, work)
}

/** Chips are found by label, as their numbers change from boot to boot (HANDLES 11.1). */
function findChip(system: LinuxSystem, board: LinuxBoard): string | null {
  return chipPaths().find((path) => onChip(system, path, (_, { label }) => label === board.chip)) ?? null
}

function chips(system: LinuxSystem): string {
  const labels = chipPaths().map((path) => onChip(system, path, (_, chip) => chip.label))
  return labels.length === 0 ? 'none' : labels.join(', ')
}

function chipPaths(): string[] {
  return readdirSync('/dev')
    .filter((entry) => /^gpiochip\d+$/.test(entry))
    .sort((a, b) => Number(a.slice(8)) - Number(b.slice(8)))
    .map((entry) => `/dev/${entry}`)
}

function onChip<T>(system: LinuxSystem, path: string, work: (fd: number, chip: ChipInfo) => T): T {
  return fault(path, () => {
    const fd = openSync(path, 'r+')
    try {
      const bytes = new Uint8Array(CHIP_INFO_SIZE)
      system.ioctl(fd, GPIO_GET_CHIPINFO_IOCTL, bytes)
      return work(fd, decodeChipInfo(bytes))
    } finally {
      closeSync(fd)
    }
  })
}

function lineState(system: LinuxSystem, fd: number, offset: number): LineState {
  const bytes = lineInfoOf(offset)
  system.ioctl(fd, GPIO_V2_GET_LINEINFO_IOCTL, bytes)
  return decodeLineInfo(bytes)
}
