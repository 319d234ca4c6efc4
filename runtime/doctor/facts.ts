/**
 * The facts about a machine, as plain data. machine.ts, hardware.ts and confine.ts judge these facts alone, so tests can
 * judge machines that are not at hand.
 */
import type { CanConfine } from '../body/sandbox/confinement.ts'

export interface Device {
  readonly path: string
  /** Whether this user may read and write the device. */
  readonly open: boolean
  /** Name of the device file's group. */
  readonly group: string
}

export interface Port extends Device {
  /** The path with symbolic links resolved: /dev/serial0 is /dev/ttyAMA0. */
  readonly target: string
}

export interface Chip extends Device {
  /** null when the chip could not be queried. */
  readonly label: string | null
  readonly lines: number
  /** Lines in use, with the consumer's name. */
  readonly used: Readonly<Record<number, string>>
}

export interface PwmChip extends Device {
  readonly number: number
  readonly channels: number
  /** Name of the parent device, like `fe20c000.pwm`. */
  readonly device: string
}

export interface Groups {
  /** Where cgroup v2 is mounted; null: it is not mounted. */
  readonly mount: string | null
  /** Controllers in the root group. */
  readonly controllers: readonly string[]
  /** The group of this process, its controllers, and whether this user may make groups below it. */
  readonly own: string | null
  readonly ownControllers: readonly string[]
  readonly writable: boolean
  /** Whether groups have a file cgroup.kill. */
  readonly kill: boolean
}

export const MODULES = ['koffi', 'i2c-bus', 'onoff', 'epoll', 'pigpio'] as const
export type NativeModule = (typeof MODULES)[number]

/** Commands that the runtime starts, and the Debian package of each. */
export const TOOLS = {
  sh: 'dash',
  setpriv: 'util-linux',
  unshare: 'util-linux',
  mount: 'mount',
  chroot: 'coreutils',
  chrt: 'util-linux',
  mkfifo: 'coreutils',
  stty: 'coreutils',
} as const
export type Tool = keyof typeof TOOLS

export interface Facts {
  readonly host: string
  readonly platform: string
  readonly arch: string
  /** uname -r */
  readonly kernel: string
  /** /proc/device-tree/model */
  readonly model: string | null
  readonly user: { readonly uid: number; readonly name: string; readonly groups: readonly string[] }
  readonly node: {
    readonly version: string
    readonly path: string
    /** The first file or folder of Node or of this installation that other users may not read. */
    readonly closed: string | null
  }
  readonly chips: readonly Chip[]
  readonly sysfsGpio: boolean
  readonly i2c: readonly Device[]
  /** I2C devices that a kernel driver uses: `1-0068` to the driver's name. */
  readonly i2cDrivers: Readonly<Record<string, string>>
  readonly spi: readonly Device[]
  readonly serial: readonly Port[]
  /** Devices that the kernel found on 1-wire buses, like `28-0316a279f5ff`; null: there is no bus. */
  readonly w1: readonly string[] | null
  readonly pwm: readonly PwmChip[]
  /** null: the module loads; else the first line of the error. */
  readonly modules: Readonly<Record<NativeModule, string | null>>
  /** Missing commands. */
  readonly noTools: readonly Tool[]
  readonly bwrap: boolean
  readonly confine: CanConfine
  readonly groups: Groups
  /** /proc/cmdline */
  readonly cmdline: string
  /** Folder of the firmware's config.txt and cmdline.txt. */
  readonly firmware: string
  /** Bits of get_throttled; null where there is no such firmware. */
  readonly throttled: number | null
  /** Whether the clock is synchronised; null: unknown. */
  readonly clockSet: boolean | null
  readonly realtime: {
    /** Whether a command could be started under SCHED_FIFO. */
    readonly works: boolean
    /** sched_rt_runtime_us; -1 is no limit, null unknown. */
    readonly runtimeUs: number | null
    readonly preemptRt: boolean
  }
  readonly memory: { readonly totalMb: number; readonly availableMb: number }
  readonly home: {
    readonly dir: string
    readonly there: boolean
    /** Whether this user may not read the folder. */
    readonly closed: boolean
    /** pid of the runtime that holds the home's lock */
    readonly running: number | null
    /** Until when a pairing window is open; null: none is, or this user may not read it. */
    readonly pairing: string | null
  }
  /** Null: systemd is not what started this computer. */
  readonly service: {
    readonly installed: boolean
    /** The first path of the unit's command that is not there any more. */
    readonly missing: string | null
  } | null
  /** The board file; `text` is null when it cannot be read, and `error` holds the error code. */
  readonly board: { readonly file: string; readonly text: string | null; readonly error: string }
}
