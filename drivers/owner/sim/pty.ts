/**
 * A simulated serial line: a pseudo-terminal (pty(7)), set to raw mode before its path is published (HANDLES 9.10).
 *
 * The program has the master, since the terminal program at the other end needs a terminal, which is the slave. ptmx is
 * opened non-blocking, so that neither end waits for the other.
 */
import { closeSync, constants, mkdirSync, openSync, readlinkSync, rmSync, symlinkSync } from 'node:fs'
import { dirname } from 'node:path'
import type { SerialEntry } from '../../board/types.ts'
import { HardwareError, hardwareFault } from '../../errors.ts'
import type { GrantSource } from '../backend.ts'
import { configureLine } from '../linux/serial.ts'
import { type LinuxSystem, loadSystem } from '../linux/system.ts'
import type { Channel } from './channels.ts'

/** asm-generic/ioctls.h: TIOCSPTLCK and TIOCGPTN, each with a pointer to an int. */
const UNLOCK = 0x40045431
const NUMBER = 0x80045430
const HOW = constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK

export class Pty implements Channel {
  readonly source: GrantSource
  readonly fds: readonly number[]
  /** The path for a terminal program: a link with a fixed name to the slave. */
  readonly link: string
  readonly #path: string
  #open = true

  /** Takes over the master. */
  constructor(fd: number, link: string, system = systemFor(link)) {
    this.source = { via: 'inherit', fd, encoding: 'pty' }
    this.fds = [fd]
    this.link = link
    this.#path = slaveOf(fd, system)
    mkdirSync(dirname(link), { recursive: true, mode: 0o700 })
    // a link that a killed owner left
    rmSync(link, { force: true })
    symlinkSync(this.#path, link)
  }

  /** Throws `unsupported` where there is no Linux or no koffi. */
  static make(name: string, entry: SerialEntry, link: string): Pty {
    const system = systemFor(name)
    let fd: number | undefined
    try {
      fd = openSync('/dev/ptmx', HOW)
      system.ioctl(fd, UNLOCK, new Uint8Array(4))
      configureLine(name, slaveOf(fd, system), entry)
      return new Pty(fd, link, system)
    } catch (error) {
      if (fd !== undefined) closeSync(fd)
      throw hardwareFault(name, error)
    }
  }

  drain(): void {}

  show(): void {}

  close(): void {
    if (!this.#open) return
    this.#open = false
    if (leadsTo(this.link) === this.#path) rmSync(this.link, { force: true })
    closeSync(this.fds[0] as number)
  }
}

function systemFor(name: string): LinuxSystem {
  try {
    return loadSystem()
  } catch (cause) {
    const message = `${name}: a simulated serial line needs Linux and koffi: ${(cause as Error).message}`
    throw new HardwareError('unsupported', message, { cause })
  }
}

function slaveOf(fd: number, system: LinuxSystem): string {
  const number = new Uint8Array(4)
  system.ioctl(fd, NUMBER, number)
  return `/dev/pts/${new DataView(number.buffer).getUint32(0, true)}`
}

function leadsTo(link: string): string | null {
  try {
    return readlinkSync(link)
  } catch {
    return null
  }
}
