/**
 * Invariant: speed and framing are set here, once, while nobody else has the line; what is under way is not lost at a
 * change of program (HANDLES 12.12).
 *
 * termios(3) through stty(1), which works on the descriptor it is given as stdin.
 */
import { spawnSync } from 'node:child_process'
import { closeSync, constants, openSync } from 'node:fs'
import type { SerialEntry } from '../../board/types.ts'
import { HardwareError, hardwareFault } from '../../errors.ts'
import type { OpenContext, Opened } from './device.ts'
import { keptFd, openFault } from './faults.ts'
import type { LinuxSystem } from './system.ts'

/** include/uapi/asm-generic/ioctls.h; has no argument. */
const TIOCEXCL = 0x540c
const STTY_MS = 5000
const HOW = constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK

export function openSerial({ name, entry, system, kept }: OpenContext<SerialEntry>): Opened {
  const fd = kept === undefined ? start(name, entry, system) : keptFd(name, kept.fds)
  return { source: { via: 'inherit', fd, encoding: 'serial' }, fds: [fd], close: () => closeSync(fd) }
}

function start(name: string, entry: SerialEntry, system: LinuxSystem): number {
  const { path } = entry
  let fd: number
  try {
    fd = openSync(path, HOW)
  } catch (error) {
    const enable = 'enable it (enable_uart=1 in /boot/firmware/config.txt), or plug it in'
    throw openFault(name, path, error, enable, 'dialout')
  }
  try {
    configureLine(name, path, entry)
    system.ioctl(fd, TIOCEXCL, new Uint8Array(8))
  } catch (error) {
    closeSync(fd)
    throw hardwareFault(name, error)
  }
  return fd
}

/** Raw, at the speed and framing of the entry. */
export function configureLine(name: string, path: string, entry: SerialEntry): void {
  const settings = [String(entry.baud), 'raw', '-echo', '-echoe', '-echok', '-echoctl', '-echoke', '-iexten']
  settings.push(`cs${entry.dataBits}`, entry.stopBits === 2 ? 'cstopb' : '-cstopb')
  settings.push(...{ none: ['-parenb'], even: ['parenb', '-parodd'], odd: ['parenb', 'parodd'] }[entry.parity])
  // no modem lines; closing does not drop DTR, which resets many a board
  settings.push('-crtscts', 'clocal', 'cread', '-hupcl')
  // an open file of its own: spawn makes what it hands over as stdin blocking, for all who share it
  const own = openSync(path, HOW)
  const { error, status, stderr } = spawnSync('stty', settings, {
    stdio: [own, 'ignore', 'pipe'],
    env: { PATH: process.env.PATH, LC_ALL: 'C' },
    timeout: STTY_MS,
  })
  closeSync(own)
  if (error !== undefined) throw new HardwareError('other', `${name}: stty cannot be run`, { cause: error })
  if (status === 0) return
  const said = stderr.toString().trim()
  throw new HardwareError('unsupported', `${name}: ${path} cannot be set up: ${said}`)
}
