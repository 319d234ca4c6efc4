/** Errors for a device file that cannot be opened; each says what to do. */
import { basename } from 'node:path'
import { HardwareError, hardwareFault } from '../../errors.ts'

/** `enable` says how to enable a missing device; `group` is the group that may open it. */
export function openFault(name: string, path: string, error: unknown, enable: string, group: string): HardwareError {
  const code = (error as { code?: unknown } | null)?.code
  if (code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO') {
    return new HardwareError('no-device', `${name}: ${basename(path)} is not there: ${enable}`, { cause: error })
  }
  if (code === 'EACCES' || code === 'EPERM') {
    const message = `${name}: this user may not open ${path}: add the user to the group ${group}`
    return new HardwareError('other', message, { cause: error })
  }
  return hardwareFault(name, error)
}

/** The descriptor of a handle that was kept open (HANDLES 3.9). */
export function keptFd(name: string, fds: readonly number[]): number {
  const [fd] = fds
  if (fd === undefined) throw new HardwareError('no-device', `${name}: no descriptor was kept`)
  return fd
}
