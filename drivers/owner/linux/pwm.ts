/**
 * Kernel PWM through sysfs (Documentation/driver-api/pwm.rst, "Using PWMs with the sysfs interface").
 *
 * Invariant: a channel that already runs at the right period gets only a duty cycle: it is not disabled, configured or
 * enabled again, which would interrupt its pulses (HANDLES 12.7; test/drivers/owner/linux/buses.test.ts).
 */
import { accessSync, closeSync, constants, existsSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { PwmEntry } from '../../board/types.ts'
import { pause } from '../../clock.ts'
import { HardwareError, hardwareFault } from '../../errors.ts'
import { DutyTextPort } from '../../program/inherit/ports.ts'
import { periodNs } from '../../program/servo.ts'
import type { OpenContext, OpenDevice } from './device.ts'
import { keptFd, openFault } from './faults.ts'

const CLASS = '/sys/class/pwm'
/** After the export of a channel, udev needs a moment to give its files to the group. */
const UDEV_MS = 1000
const STEP_MS = 5

/** `root` is the folder of the PWM chips in sysfs. */
export function openPwm({ name, entry, kept }: OpenContext<PwmEntry>, root = CLASS): OpenDevice {
  const period = periodNs(entry.frequencyHz)
  const portOn = (fd: number) => new DutyTextPort({ name, id: 0, kind: 'pwm', via: 'inherit', fd, periodNs: period })
  const fd = kept === undefined ? start(name, entry, period, root, portOn) : keptFd(name, kept.fds)
  const port = portOn(fd)
  const text = Buffer.alloc(32)
  return {
    source: { via: 'inherit', fd, encoding: 'text' },
    fds: [fd],
    value() {
      try {
        return Number.parseInt(text.toString('latin1', 0, readSync(fd, text, 0, text.length, 0)), 10) / period
      } catch (error) {
        throw hardwareFault(name, error)
      }
    },
    drive: (value) => port.write(value),
    // the channel stays exported and keeps its last duty cycle (HANDLES 12.8)
    close: () => closeSync(fd),
  }
}

/** Exports, configures and enables the channel as far as needed. Returns the descriptor of duty_cycle. */
function start(
  name: string,
  entry: PwmEntry,
  period: number,
  root: string,
  port: (fd: number) => DutyTextPort,
): number {
  if (entry.channel === undefined) throw new HardwareError('other', `${name}: the board file gives no PWM channel`)
  const { chip: number, channel } = entry.channel
  const chip = join(root, `pwmchip${number}`)
  const folder = join(chip, `pwm${channel}`)
  const fault = (error: unknown) => {
    const overlay = 'add its overlay to /boot/firmware/config.txt (dtoverlay=pwm-2chan) and start again'
    return openFault(name, folder, error, overlay, 'gpio')
  }
  const exported = existsSync(folder)
  let fd: number | undefined
  try {
    if (!exported) exportChannel(name, chip, channel)
    awaitAccess(folder)
    const read = (file: string) => readFileSync(join(folder, file), 'latin1').trim()
    const write = (file: string, value: number | string) => writeFileSync(join(folder, file), `${value}\n`)
    // only a channel that was exported before: the files of a new export may show settings that the chip does not have
    const runs = exported && read('enable') === '1' && read('polarity') === 'normal' && read('period') === `${period}`
    fd = openSync(join(folder, 'duty_cycle'), 'r+')
    if (!runs) {
      if (read('enable') === '1') write('enable', 0)
      if (Number(read('duty_cycle')) > period) write('duty_cycle', 0)
      // the kernel refuses a duty cycle longer than the period (HANDLES 12.6)
      if (read('period') !== `${period}`) write('period', period)
      if (read('polarity') !== 'normal') write('polarity', 'normal')
    }
    port(fd).write(entry.initial)
    if (!runs) write('enable', 1)
    return fd
  } catch (error) {
    if (fd !== undefined) closeSync(fd)
    throw error instanceof HardwareError ? error : fault(error)
  }
}

function exportChannel(name: string, chip: string, channel: number): void {
  try {
    writeFileSync(join(chip, 'export'), String(channel))
  } catch (error) {
    const { code } = error as { code?: unknown }
    if (code === 'EBUSY') {
      throw new HardwareError('busy', `${name}: pwm${channel} is held by a kernel driver: remove its overlay`, {
        cause: error,
      })
    }
    if (code !== 'ENODEV') throw error
    const count = readFileSync(join(chip, 'npwm'), 'latin1').trim()
    throw new HardwareError('no-device', `${name}: expected a channel below ${count}, got ${channel}`, { cause: error })
  }
}

function awaitAccess(folder: string): void {
  const end = performance.now() + UDEV_MS
  for (;;) {
    try {
      for (const file of ['period', 'duty_cycle', 'enable']) {
        accessSync(join(folder, file), constants.R_OK | constants.W_OK)
      }
      return
    } catch (error) {
      if (performance.now() > end) throw error
      pause(STEP_MS)
    }
  }
}
