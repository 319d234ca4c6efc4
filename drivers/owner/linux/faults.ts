/** Invariant: what a device file that cannot be opened says tells what to do about it. */
import { basename } from 'node:path'
import { HardwareError, hardwareFault } from '../../errors.ts'

/** `enable` says how a device that is not there gets there, `group` who may open it. */
export function openFault(name: string, path: string, error: unknown, enable: string, group: string): HardwareError {
  const code = (error as { code?: unknown } | null)?.code
  if (code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO') {
    return new HardwareError('no-device', `${name}: ${basename(path)} is not there: ${enable}`, { cause: error })
  }
  if (code === 'EACCES' || code === 'EPERM') {
    const message = `${name}: this user may not open ${path}: add it to the group ${group}`
    return new HardwareError('other', message, { cause: error })
  }
  return hardwareFault(name, error)
}

/** HANDLES 3.9: the one descriptor that was kept of a handle. */
export function keptFd(name: string, fds: readonly number[]): number {
  const [fd] = fds
  if (fd === undefined) throw new HardwareError('no-device', `${name}: nothing was kept`)
  return fd
}
