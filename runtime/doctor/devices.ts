/** Reads which devices there are, with read-only calls: no line is requested, no channel exported, no bus used. */
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  statSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { type LinuxSystem, loadSystem } from '../../drivers/owner/linux/system.ts'
import {
  CHIP_INFO_SIZE,
  decodeChipInfo,
  decodeLineInfo,
  GPIO_GET_CHIPINFO_IOCTL,
  GPIO_V2_GET_LINEINFO_IOCTL,
  LINE_FLAG,
  lineInfoOf,
} from '../../drivers/owner/linux/uapi.ts'
import type { Chip, Device, Facts, PwmChip } from './facts.ts'

const PWM = '/sys/class/pwm'
const I2C = '/sys/bus/i2c/devices'
const W1 = '/sys/bus/w1/devices'

type Hardware = Pick<Facts, 'chips' | 'sysfsGpio' | 'i2c' | 'i2cDrivers' | 'spi' | 'serial' | 'w1' | 'pwm'>

/** `groupNames`: group names by gid. */
export function readDevices(groupNames: ReadonlyMap<number, string>): Hardware {
  const device = (path: string): Device => ({ path, open: mayOpen(path), group: groupOf(path, groupNames) })
  const nodes = (pattern: RegExp) => numbered('/dev', pattern).map((name) => device(`/dev/${name}`))
  const system = systemOrNull()
  return {
    chips: nodes(/^gpiochip\d+$/).map((node) => ({ ...node, ...queryChip(system, node.path) })),
    sysfsGpio: listFolder('/sys/class').includes('gpio'),
    i2c: nodes(/^i2c-\d+$/),
    i2cDrivers: boundDrivers(),
    spi: nodes(/^spidev\d+\.\d+$/),
    serial: nodes(/^(?:serial|ttyAMA|ttyS|ttyUSB|ttyACM)\d+$/)
      .filter(({ path }) => isPort(basename(path)))
      .map((node) => ({ ...node, target: realpathSync(node.path) })),
    w1: existsSync(W1) ? listFolder(W1).filter((name) => /^[0-9a-f]{2}-/.test(name)) : null,
    pwm: numbered(PWM, /^pwmchip\d+$/).map((name) => pwmChip(name, device(join(PWM, name, 'export')))),
  }
}

/** null without koffi: then GPIO chips cannot be queried, as that takes ioctl(2). */
function systemOrNull(): LinuxSystem | null {
  try {
    return loadSystem()
  } catch {
    return null
  }
}

function queryChip(system: LinuxSystem | null, path: string): Pick<Chip, 'label' | 'lines' | 'used'> {
  let fd: number | undefined
  try {
    if (system === null) throw new Error('no koffi')
    fd = openSync(path, 'r')
    const bytes = new Uint8Array(CHIP_INFO_SIZE)
    system.ioctl(fd, GPIO_GET_CHIPINFO_IOCTL, bytes)
    const { label, lines } = decodeChipInfo(bytes)
    const used: Record<number, string> = {}
    for (let line = 0; line < lines; line++) {
      const info = lineInfoOf(line)
      system.ioctl(fd, GPIO_V2_GET_LINEINFO_IOCTL, info)
      const { flags, consumer } = decodeLineInfo(info)
      if ((flags & LINE_FLAG.used) !== 0n) used[line] = consumer || '?'
    }
    return { label, lines, used }
  } catch {
    return { label: null, lines: 0, used: {} }
  } finally {
    if (fd !== undefined) closeSync(fd)
  }
}

function pwmChip(name: string, device: Device): PwmChip {
  let channels = 0
  let parent = '?'
  try {
    channels = Number(readFileSync(join(PWM, name, 'npwm'), 'latin1'))
    parent = basename(readlinkSync(join(PWM, name, 'device')))
  } catch {
    // the chip was removed meanwhile
  }
  return { ...device, number: Number(name.slice('pwmchip'.length)), channels, device: parent }
}

function boundDrivers(): Record<string, string> {
  const found: Record<string, string> = {}
  for (const name of numbered(I2C, /^\d+-[0-9a-f]{4}$/)) {
    try {
      found[name] = basename(readlinkSync(join(I2C, name, 'driver')))
    } catch {
      // a device without a driver
    }
  }
  return found
}

/** A PC has /dev/ttyS0 to ttyS3 even without a UART; their type is then 0, PORT_UNKNOWN. */
function isPort(name: string): boolean {
  try {
    return readFileSync(`/sys/class/tty/${name}/type`, 'latin1').trim() !== '0'
  } catch {
    return true
  }
}

export function mayOpen(path: string): boolean {
  try {
    accessSync(path, path.startsWith('/sys/') ? constants.W_OK : constants.R_OK | constants.W_OK)
    return true
  } catch {
    return false
  }
}

function groupOf(path: string, names: ReadonlyMap<number, string>): string {
  const gid = statSync(path, { throwIfNoEntry: false })?.gid
  return gid === undefined ? '?' : (names.get(gid) ?? String(gid))
}

function numbered(folder: string, pattern: RegExp): string[] {
  return listFolder(folder)
    .filter((name) => pattern.test(name))
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
}

export function listFolder(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}
