/**
 * What a runtime leaves to the one that replaces it: node:v8's serialisation, in an open file without a name (HANDOVER 18.5).
 *
 * The format changes with every change of a saved shape: a runtime refuses to go on with a format that it does not know, and is
 * asked before the old one ends.
 */
import { closeSync, fstatSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { deserialize, serialize } from 'node:v8'
import { WIRE } from '../../sdk/wire.ts'
import type { SavedHardware } from '../hardware/hardware.ts'
import type { SavedRunDirs } from '../sandbox/rundir.ts'
import type { SavedService } from '../service/environment.ts'
import type { SavedSlot } from '../slot/saved.ts'

export const SAVED_FORMAT = 'medulla-saved/2'
/** Above every state: the logs of 16 slots, and the memory of simulated chips. */
const MAX_BYTES = 256 * 1024 * 1024

export interface SavedBody {
  readonly format: typeof SAVED_FORMAT
  /** Version, and main file, of the runtime that was replaced. */
  readonly from: { readonly version: string; readonly main: string }
  /** Fingerprint of the operator; null: nobody ordered it. */
  readonly by: string | null
  /** CLOCK_MONOTONIC when the old runtime ended, in ns. */
  readonly atNs: number
  readonly dirs: SavedRunDirs
  readonly hardware: SavedHardware
  readonly slots: readonly SavedSlot[]
  readonly endpoint: { readonly port: number; readonly pid: number | null }
  readonly service: SavedService
  /** Why the new runtime could not go on, when the old one is back. */
  readonly failed?: string
}

/** What a runtime can go on with, as it says itself before it replaces another one. */
export const ABLE = { format: SAVED_FORMAT, wire: WIRE } as const

/** Returns a descriptor. */
export function writeSaved(folder: string, saved: SavedBody): number {
  const path = join(folder, 'saved')
  const fd = openSync(path, 'wx+', 0o600)
  unlinkSync(path)
  const bytes = serialize(saved)
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at)
  return fd
}

/** Closes the descriptor. Throws for another format. */
export function readSaved(fd: number): SavedBody {
  const { size } = fstatSync(fd)
  if (size > MAX_BYTES) throw new Error(`expected at most ${MAX_BYTES} bytes, got ${size}`)
  const bytes = Buffer.alloc(size)
  let got = 0
  while (got < size) {
    const more = readSync(fd, bytes, got, size - got, got)
    if (more === 0) throw new Error(`expected ${size} bytes, got ${got}`)
    got += more
  }
  closeSync(fd)
  const saved = deserialize(bytes) as SavedBody
  if (saved.format !== SAVED_FORMAT) throw new Error(`expected format ${SAVED_FORMAT}, got ${saved.format}`)
  return saved
}

/** Every descriptor that must stay open. */
export function descriptorsOf({ hardware, slots, service }: SavedBody): number[] {
  const handles = hardware.handles.flatMap(([, { fds }]) => [...fds])
  const children = slots.flatMap(({ program }) => {
    if (program === null) return []
    const { stdout, stderr, control, broker } = program.child.process
    return [stdout, stderr, control, broker].filter((fd) => fd >= 0)
  })
  const lifeline = hardware.guard === null ? [] : [hardware.guard.lifeline]
  const listener = service.listener === null ? [] : [service.listener.fd]
  const discovery = service.discovery === null ? [] : [service.discovery]
  return [0, 1, 2, ...handles, ...children, ...lifeline, ...listener, ...discovery]
}
