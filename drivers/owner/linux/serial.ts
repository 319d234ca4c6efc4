/**
 * Opens serial lines: raw, exclusive, non-blocking, with speed and framing set once.
 *
 * Nothing flushes or configures a line later: bytes that a program did not read wait for its successor (HANDLES 12.12).
 * stty(1) sets the line up (termios(3)); it works on the descriptor that it gets as stdin.
 */
import { spawnSync } from 'node:child_process'
import { closeSync, constants, openSync } from 'node:fs'
import type { SerialEntry } from '../../board/types.ts'
import { HardwareError, hardwareFault } from '../../errors.ts'
import type { OpenContext, OpenDevice } from './device.ts'
import { keptFd, openFault } from './faults.ts'
import type { LinuxSystem } from './system.ts'

/** include/uapi/asm-generic/ioctls.h; the ioctl takes no argument. */
const TIOCEXCL = 0x540c
const STTY_MS = 5000
const HOW = constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK

export function openSerial({ name, entry, system, kept }: OpenContext<SerialEntry>): OpenDevice {
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

/** Sets the line to raw mode, with the speed and framing of the entry. */
export function configureLine(name: string, path: string, entry: SerialEntry): void {
  const settings = [String(entry.baud), 'raw', '-echo', '-echoe', '-echok', '-echoctl', '-echoke', '-iexten']
  settings.push(`cs${entry.dataBits}`, entry.stopBits === 2 ? 'cstopb' : '-cstopb')
  settings.push(...{ none: ['-parenb'], even: ['parenb', '-parodd'], odd: ['parenb', 'parodd'] }[entry.parity])
  // without modem lines; -hupcl: closing must not drop DTR, which resets many boards
  settings.push('-crtscts', 'clocal', 'cread', '-hupcl')
  // opened a second time: spawn makes the open file of a child's stdin blocking, also for others who share it
  const own = openSync(path, HOW)
  const { error, status, stderr } = spawnSync('stty', settings, {
    stdio: [own, 'ignore', 'pipe'],
    env: { PATH: process.env.PATH, LC_ALL: 'C' },
    timeout: STTY_MS,
  })
  closeSync(own)
  if (error !== undefined) throw new HardwareError('other', `${name}: cannot run stty`, { cause: error })
  if (status === 0) return
  const said = stderr.toString().trim()
  throw new HardwareError('unsupported', `${name}: ${path} cannot be set up: ${said}`)
}
