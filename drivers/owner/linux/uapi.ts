/**
 * Encodes and decodes the structures of include/uapi/linux/gpio.h, version 2 of the interface.
 *
 * | struct | size | members at |
 * |---|---|---|
 * | gpiochip_info | 68 | name 0 (32), label 32 (32), lines 64 |
 * | gpio_v2_line_attribute | 16 | id 0, flags, values or debounce_period_us 8 |
 * | gpio_v2_line_config_attribute | 24 | attr 0, mask 16 |
 * | gpio_v2_line_config | 272 | flags 0, num_attrs 8, attrs 32 (10) |
 * | gpio_v2_line_request | 592 | offsets 0 (64), consumer 256 (32), config 288, num_lines 560, event_buffer_size 564, fd 588 |
 * | gpio_v2_line_info | 256 | name 0 (32), consumer 32 (32), offset 64, num_attrs 68, flags 72, attrs 80 (10) |
 * | gpio_v2_line_event | 48 | timestamp_ns 0, id 8, offset 12, seqno 16, line_seqno 20 |
 *
 * The structures are the same for every architecture; all that runs this is little endian.
 */
import { ior, iowr } from '../../ioctl.ts'

const TYPE = 0xb4
const NAME_SIZE = 32

export const CHIP_INFO_SIZE = 68
export const LINE_INFO_SIZE = 256
export const LINE_REQUEST_SIZE = 592
export const LINE_EVENT_SIZE = 48

export const GPIO_GET_CHIPINFO_IOCTL = ior(TYPE, 0x01, CHIP_INFO_SIZE)
export const GPIO_V2_GET_LINEINFO_IOCTL = iowr(TYPE, 0x05, LINE_INFO_SIZE)
export const GPIO_V2_GET_LINE_IOCTL = iowr(TYPE, 0x07, LINE_REQUEST_SIZE)

/** GPIO_V2_LINE_FLAG_… */
export const LINE_FLAG = {
  used: 1n << 0n,
  activeLow: 1n << 1n,
  input: 1n << 2n,
  output: 1n << 3n,
  edgeRising: 1n << 4n,
  edgeFalling: 1n << 5n,
  openDrain: 1n << 6n,
  openSource: 1n << 7n,
  pullUp: 1n << 8n,
  pullDown: 1n << 9n,
  biasDisabled: 1n << 10n,
} as const

const ATTRIBUTE = { outputValues: 2, debounce: 3 } as const
const EVENT_RISING = 1

export interface ChipInfo {
  /** For example `gpiochip0`. */
  readonly name: string
  readonly label: string
  readonly lines: number
}

export interface LineState {
  readonly name: string
  /** Name that the holder of the line gave; empty when the line is free, or its holder gave none. */
  readonly consumer: string
  readonly flags: bigint
}

/** The settings of a request for one line. */
export interface LineRequest {
  readonly offset: number
  /** Cut after 31 bytes. */
  readonly consumer: string
  readonly flags: bigint
  /** Outputs: the logical level from the start. */
  readonly initial?: 0 | 1
  /** Inputs: debounce period; 0 is off. */
  readonly debounceUs?: number
  /** Events that the kernel queues, at most 1024; 0: its default, 16 for one line. */
  readonly events?: number
}

export interface LineEvent {
  readonly level: 0 | 1
  readonly ns: bigint
  /** Number of the event in this request, from 1, modulo 2^32; lost events count too. */
  readonly lineSeqno: number
}

export function decodeChipInfo(bytes: Uint8Array): ChipInfo {
  return { name: textAt(bytes, 0), label: textAt(bytes, NAME_SIZE), lines: viewOf(bytes).getUint32(64, true) }
}

/** The argument of GPIO_V2_GET_LINEINFO_IOCTL; the kernel fills it in. */
export function lineInfoOf(offset: number): Uint8Array {
  const bytes = new Uint8Array(LINE_INFO_SIZE)
  viewOf(bytes).setUint32(64, offset, true)
  return bytes
}

export function decodeLineInfo(bytes: Uint8Array): LineState {
  const flags = viewOf(bytes).getBigUint64(72, true)
  return { name: textAt(bytes, 0), consumer: textAt(bytes, NAME_SIZE), flags }
}

/** The argument of GPIO_V2_GET_LINE_IOCTL; the kernel writes the descriptor into it, for {@link requestedFd}. */
export function encodeLineRequest(request: LineRequest): Uint8Array {
  const bytes = new Uint8Array(LINE_REQUEST_SIZE)
  const view = viewOf(bytes)
  view.setUint32(0, request.offset, true)
  // the last of the 32 bytes stays 0
  new TextEncoder().encodeInto(request.consumer, bytes.subarray(256, 256 + NAME_SIZE - 1))
  view.setBigUint64(288, request.flags, true)
  let attributes = 0
  const attribute = (id: number, value: bigint) => {
    const at = 320 + 24 * attributes++
    view.setUint32(at, id, true)
    view.setBigUint64(at + 8, value, true)
    view.setBigUint64(at + 16, 1n, true)
  }
  if (request.initial !== undefined) attribute(ATTRIBUTE.outputValues, BigInt(request.initial))
  if (request.debounceUs) attribute(ATTRIBUTE.debounce, BigInt(request.debounceUs))
  view.setUint32(296, attributes, true)
  view.setUint32(560, 1, true)
  view.setUint32(564, request.events ?? 0, true)
  return bytes
}

export function requestedFd(bytes: Uint8Array): number {
  return viewOf(bytes).getInt32(588, true)
}

/** `at` is the offset of the event in `bytes`. */
export function decodeLineEvent(bytes: Uint8Array, at: number): LineEvent {
  const view = viewOf(bytes)
  return {
    level: view.getUint32(at + 8, true) === EVENT_RISING ? 1 : 0,
    ns: view.getBigUint64(at, true),
    lineSeqno: view.getUint32(at + 20, true),
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function textAt(bytes: Uint8Array, at: number): string {
  const field = Buffer.from(bytes.buffer, bytes.byteOffset + at, NAME_SIZE)
  const end = field.indexOf(0)
  return field.toString('utf8', 0, end < 0 ? NAME_SIZE : end)
}
