/**
 * Invariant: a line that is exported already keeps its level (HANDLES 11.8); a new one gets its initial value with its
 * direction, in one write.
 *
 * The legacy interface, /sys/class/gpio (Documentation/admin-guide/gpio/sysfs.rst), through onoff.
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
import type { LinuxBoard, OpenContext, Opened } from './device.ts'
import { LevelEdges } from './leveledges.ts'
import type { LinuxSystem } from './system.ts'

const CLASS = '/sys/class/gpio'
const F_SETFD = 2
const FD_CLOEXEC = 1

interface Gpio {
  /** onoff's own descriptor of `value`; read and write. */
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

/** HANDLES 11.10: two open files of `value`, since reading a granted one must not swallow what the watched one waits for. */
interface Held {
  /** In sysfs; asked for when it is needed, since adopting opens nothing. */
  readonly number: () => number
  readonly granted: number
  readonly own: number
  /** null for what was kept. */
  readonly gpio: Gpio | null
  readonly initWrites: number
}

export function openSysfsOutput(context: OpenContext<OutputEntry>): Opened {
  const { name, entry } = context
  if (entry.drive !== 'push-pull') throw unable(name, `drive ${entry.drive}`)
  // raw levels: the kernel does not look at active_low here
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

export function openSysfsInput(context: OpenContext<InputEntry>): Opened {
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
  const ask = () => numberOf(name, board, entry.line)
  if (kept !== undefined) {
    const [granted, own] = kept.fds
    // HANDLES 3.9
    if (granted === undefined || own === undefined) throw new HardwareError('no-device', `${name}: nothing was kept`)
    return { number: ask, granted, own, gpio: null, initWrites: 0 }
  }
  const number = ask()
  const folder = join(CLASS, `gpio${number}`)
  const exported = existsSync(folder)
  const wasOutput = exported && readText(join(folder, 'direction')) === 'out'
  const { Gpio } = onoff(context.system)
  try {
    // HANDLES 11.8: onoff leaves an output as it is then; what is newly exported may be an output too, and gets its level
    const options = { activeLow: entry.activeLow, reconfigureDirection: !exported }
    const gpio = new Gpio(number, direction, edge, options)
    check(name, gpio, entry.activeLow, direction, edge)
    const access = direction === 'in' ? constants.O_RDONLY : constants.O_WRONLY
    const granted = openSync(join(folder, 'value'), access)
    const initWrites = direction === 'in' || wasOutput ? 0 : 1
    return { number: ask, granted, own: gpio._valueFd, gpio, initWrites }
  } catch (error) {
    if (!exported && existsSync(folder)) unexport(ask)
    throw hardwareFault(name, error)
  }
}

/** onoff goes on when an exported line refuses a setting. */
function check(name: string, gpio: Gpio, activeLow: boolean, direction: string, edge: string): void {
  const wanted = [direction === 'in' ? 'in' : 'out', String(activeLow), direction === 'in' ? edge : 'none'].join(' ')
  const got = [gpio.direction(), String(gpio.activeLow()), direction === 'in' ? gpio.edge() : 'none'].join(' ')
  if (got === wanted) return
  throw new HardwareError('other', `${name}: expected direction, active_low and edge ${wanted}, got ${got}`)
}

/** HANDLES 11.9. Returns what ends it. */
function watch(context: OpenContext, { gpio, own }: Held, edges: LevelEdges, read: () => 0 | 1): () => void {
  if (gpio !== null) {
    gpio.watch((error, level) => {
      if (!error) edges.notified(level)
    })
    // unexport() unwatches
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
    // it is not exported any more
  }
}

/** HANDLES 11.7: the kernel numbers lines anew at each boot: base of the chip with that label, plus the line. */
function numberOf(name: string, board: LinuxBoard, line: string): number {
  const offset = Number(line.slice('GPIO'.length))
  if (!existsSync(CLASS)) {
    // HANDLES 11.11
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
  throw new HardwareError('no-device', `${name}: no GPIO chip ${board.chip ?? ''} in ${CLASS}; there is ${there}`)
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

/** The module that onoff itself waits with. */
function epoll(): EpollModule {
  return createRequire(require.resolve('onoff'))('epoll') as EpollModule
}

/** HANDLES 11.10: epoll's descriptor would reach every child, and with it what the body watches. */
function closeOnExec(system: LinuxSystem): void {
  const fcntl = system.bind('fcntl', 'int', ['int', 'int', 'int'])
  for (const entry of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(join('/proc/self/fd', entry)) === 'anon_inode:[eventpoll]')
        fcntl(Number(entry), F_SETFD, FD_CLOEXEC)
    } catch {
      // closed meanwhile: that of readdir itself
    }
  }
}

function portGrant({ name, entry }: OpenContext<InputEntry | OutputEntry>): ConstructorParameters<typeof LevelPort>[0] {
  return { name, id: 0, kind: entry.kind, via: 'inherit' }
}

/** HANDLES 11.11 */
function unable(name: string, what: string): HardwareError {
  return new HardwareError('unsupported', `${name}: sysfs cannot do ${what}: write "driver": "cdev"`)
}

function readText(path: string): string {
  return readFileSync(path, 'utf8').trim()
}
