/**
 * Inputs and outputs whose board file says `"driver": "sysfs"`, through /sys/class/gpio, with the package onoff. It exists for
 * lines that other software has exported there: the character device (linux/lines.ts) answers `busy` for them, and this
 * driver takes them over with their level. Everything else uses the character device: sysfs has no pulls, loses fast edges,
 * and is missing in newer kernels (Documentation/admin-guide/gpio/sysfs.rst; HANDLES 11.7 to 11.11).
 *
 * A line that is already exported as an output keeps its level. A newly exported one gets direction and initial level
 * in one write (HANDLES 11.8).
 */
import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type { InputEntry, OutputEntry } from '../../board/types.ts'
import { HardwareError, hardwareFault } from '../../errors.ts'
import { LevelPort, LevelTextPort } from '../../program/inherit/ports.ts'
import type { LinuxBoard, OpenContext, OpenDevice } from '../linux/device.ts'
import type { LinuxSystem } from '../linux/system.ts'
import { LevelEdges } from './leveledges.ts'

const CLASS = '/sys/class/gpio'
const F_SETFD = 2
const FD_CLOEXEC = 1

interface Gpio {
  /** onoff's own descriptor of `value`, open for reading and writing. */
  readonly _valueFd: number
  direction(): string
  edge(): string
  activeLow(): boolean
  watch(callback: (error: Error | null | undefined, level: 0 | 1) => void): void
  unexport(): void
}
interface Onoff {
  Gpio: new (
    number: number,
    direction: 'in' | 'high' | 'low',
    edge: string,
    options: { activeLow: boolean; reconfigureDirection: boolean },
  ) => Gpio
}
interface Epoll {
  add(fd: number, events: number): Epoll
  remove(fd: number): Epoll
  close(): void
}
interface EpollModule {
  Epoll: { new (callback: () => void): Epoll; readonly EPOLLPRI: number }
}

/**
 * An exported line, with two open files of `value`: a read of one consumes a pending event, so the file that programs
 * read is not the one that the body watches (HANDLES 11.10).
 */
interface Held {
  /** The line's number in sysfs. Looked up on demand, since adopting a handle opens no file. */
  readonly number: () => number
  readonly granted: number
  readonly own: number
  /** null for an adopted handle. */
  readonly gpio: Gpio | null
  readonly initWrites: number
}

export function openSysfsOutput(context: OpenContext<OutputEntry>): OpenDevice {
  const { name, entry } = context
  if (entry.drive !== 'push-pull') throw unable(name, `drive ${entry.drive}`)
  // "high" and "low" are raw levels: the kernel ignores active_low here
  const held = hold(context, (entry.initial === 1) !== entry.activeLow ? 'high' : 'low', 'none')
  const text = new LevelTextPort({ ...portGrant(context), fd: held.own })
  const level = new LevelPort({ ...portGrant(context), fd: held.own })
  return {
    source: { via: 'inherit', fd: held.granted, encoding: 'text' },
    fds: [held.granted, held.own],
    initWrites: held.initWrites,
    value: () => level.read(),
    drive: (value) => text.write(value),
    close: () => release(held),
  }
}

export function openSysfsInput(context: OpenContext<InputEntry>): OpenDevice {
  const { name, entry, kept } = context
  if (entry.pull !== 'none') throw unable(name, `pull ${entry.pull}`)
  const held = hold(context, 'in', entry.edges)
  const port = new LevelPort({ ...portGrant(context), fd: held.own })
  const read = () => (port.read() ? 1 : 0)
  const edges = new LevelEdges(entry, read, kept?.seqno ?? 0)
  const unwatch = entry.edges === 'none' ? () => {} : watch(context, held, edges, read)
  return {
    source: { via: 'inherit', fd: held.granted, encoding: 'level' },
    fds: [held.granted, held.own],
    value: read,
    onEdge: (listener) => edges.onEdge(listener),
    seqno: () => edges.seqno,
    close() {
      edges.close()
      unwatch()
      release(held)
    },
  }
}

function hold(context: OpenContext<InputEntry | OutputEntry>, direction: 'in' | 'high' | 'low', edge: string): Held {
  const { name, entry, board, kept } = context
  const number = () => numberOf(name, board, entry.line)
  if (kept !== undefined) {
    const [granted, own] = kept.fds
    if (granted === undefined || own === undefined) {
      throw new HardwareError('no-device', `${name}: no descriptor was kept`)
    }
    return { number, granted, own, gpio: null, initWrites: 0 }
  }
  const lineNumber = number()
  const folder = join(CLASS, `gpio${lineNumber}`)
  const exported = existsSync(folder)
  const wasOutput = exported && readText(join(folder, 'direction')) === 'out'
  const { Gpio } = onoff(context.system)
  try {
    // false: onoff leaves an exported output as it is (HANDLES 11.8). A new export may also begin as an output: true.
    const options = { activeLow: entry.activeLow, reconfigureDirection: !exported }
    const gpio = new Gpio(lineNumber, direction, edge, options)
    check(name, gpio, entry.activeLow, direction, edge)
    const access = direction === 'in' ? constants.O_RDONLY : constants.O_WRONLY
    const granted = openSync(join(folder, 'value'), access)
    const initWrites = direction === 'in' || wasOutput ? 0 : 1
    return { number, granted, own: gpio._valueFd, gpio, initWrites }
  } catch (error) {
    if (!exported && existsSync(folder)) unexport(number)
    throw hardwareFault(name, error)
  }
}

/** Reads the settings back: onoff ignores it when an exported line refuses one. */
function check(name: string, gpio: Gpio, activeLow: boolean, direction: string, edge: string): void {
  const wanted = [direction === 'in' ? 'in' : 'out', String(activeLow), direction === 'in' ? edge : 'none'].join(' ')
  const got = [gpio.direction(), String(gpio.activeLow()), direction === 'in' ? gpio.edge() : 'none'].join(' ')
  if (got === wanted) return
  throw new HardwareError('other', `${name}: expected direction, active_low and edge ${wanted}, got ${got}`)
}

/** Reports each change of the line to `edges` (HANDLES 11.9). The returned function stops that. */
function watch(context: OpenContext, { gpio, own }: Held, edges: LevelEdges, read: () => 0 | 1): () => void {
  if (gpio !== null) {
    gpio.watch((error, level) => {
      if (!error) edges.notified(level)
    })
    // release() calls unexport(), which also stops the watch
    return () => {}
  }
  onoff(context.system)
  const { Epoll } = epoll()
  const poller = new Epoll(() => edges.notified(read()))
  poller.add(own, Epoll.EPOLLPRI)
  return () => poller.remove(own).close()
}

function release({ number, granted, own, gpio }: Held): void {
  closeSync(granted)
  if (gpio !== null) {
    gpio.unexport()
    return
  }
  closeSync(own)
  unexport(number)
}

function unexport(number: () => number): void {
  try {
    writeFileSync(join(CLASS, 'unexport'), String(number()))
  } catch {
    // somebody else has unexported the line
  }
}

/** The line's number in sysfs: base of the chip, which changes from boot to boot, plus the line (HANDLES 11.7). */
function numberOf(name: string, board: LinuxBoard, line: string): number {
  const offset = Number(line.slice('GPIO'.length))
  if (!existsSync(CLASS)) {
    throw new HardwareError('unsupported', `${name}: this kernel has no ${CLASS}: write "driver": "cdev"`)
  }
  const labels: string[] = []
  for (const chip of readdirSync(CLASS).filter((entry) => /^gpiochip\d+$/.test(entry))) {
    const label = readText(join(CLASS, chip, 'label'))
    labels.push(label)
    if (label !== board.chip) continue
    const lines = Number(readText(join(CLASS, chip, 'ngpio')))
    if (offset < lines) return Number(readText(join(CLASS, chip, 'base'))) + offset
    throw new HardwareError('no-device', `${name}: ${line}: ${label} has ${lines} lines`)
  }
  const there = labels.length === 0 ? 'none' : labels.join(', ')
  throw new HardwareError('no-device', `${name}: there is no GPIO chip ${board.chip ?? ''} in ${CLASS}, only ${there}`)
}

let loaded: Onoff | undefined
const require = createRequire(import.meta.url)

function onoff(system: LinuxSystem): Onoff {
  if (loaded !== undefined) return loaded
  let fresh: Onoff
  try {
    fresh = require('onoff') as Onoff
  } catch (cause) {
    const fix = 'npm install onoff@6.0.3, which compiles epoll, or write "driver": "cdev"'
    throw new HardwareError('unsupported', `the package onoff cannot be loaded: ${fix}`, { cause })
  }
  closeOnExec(system)
  loaded = fresh
  return fresh
}

/** The epoll module that onoff itself uses. */
function epoll(): EpollModule {
  return createRequire(require.resolve('onoff'))('epoll') as EpollModule
}

/** Without close-on-exec, children would inherit the epoll descriptor and the files it watches (HANDLES 11.10). */
function closeOnExec(system: LinuxSystem): void {
  const fcntl = system.bind('fcntl', 'int', ['int', 'int', 'int'])
  for (const entry of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(join('/proc/self/fd', entry)) === 'anon_inode:[eventpoll]')
        fcntl(Number(entry), F_SETFD, FD_CLOEXEC)
    } catch {
      // closed meanwhile: the descriptor of readdir itself
    }
  }
}

function portGrant({ name, entry }: OpenContext<InputEntry | OutputEntry>): ConstructorParameters<typeof LevelPort>[0] {
  return { name, id: 0, kind: entry.kind, via: 'inherit' }
}

/** sysfs has no pull, and no drive but push-pull (HANDLES 11.11). */
function unable(name: string, setting: string): HardwareError {
  return new HardwareError('unsupported', `${name}: sysfs cannot do ${setting}: write "driver": "cdev"`)
}

function readText(path: string): string {
  return readFileSync(path, 'utf8').trim()
}
