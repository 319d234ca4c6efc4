/** Short texts and figures of a board entry: the place of its hardware, and its slew rate. */
import type { BoardHandle, I2cEntry, ListenEntry } from './types.ts'

/** The most by which the value may change in a second; 0: no limit. */
export function slewOf(entry: BoardHandle): number {
  return entry.kind === 'pwm' || entry.kind === 'servo' ? entry.slew : 0
}

/** `i2c-1@0x68` */
export function chipOf({ bus, address }: Pick<I2cEntry, 'bus' | 'address'>): string {
  return `i2c-${bus}@0x${address.toString(16).padStart(2, '0')}`
}

/** `GPIO17`, `i2c-1@0x68`, `i2c-1@0x48/ain2`, `spi-0.1`, `/dev/serial0`, `w1-28-0316a279f5ff`, `0.0.0.0:8080` or `sockets/web.sock`. */
export function placeOf(entry: BoardHandle): string {
  if (entry.kind === 'i2c') return chipOf(entry)
  if (entry.kind === 'analog') return `${chipOf(entry)}/ain${entry.channel}`
  if (entry.kind === 'spi') return `spi-${entry.bus}.${entry.select}`
  if (entry.kind === 'temperature') return `w1-${entry.device}`
  if (entry.kind === 'listen') return listeningPlace(entry)
  return entry.kind === 'serial' ? entry.path : entry.line
}

function listeningPlace({ host, port, path }: ListenEntry): string {
  if (path !== undefined) return `sockets/${path}`
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
