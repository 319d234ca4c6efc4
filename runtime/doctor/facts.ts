/**
 * Invariant: what is known of a machine is plain data; the judges (machine.ts, hardware.ts, confine.ts) see nothing else,
 * so that a machine can be made up.
 */
import type { CanConfine } from '../body/sandbox/confinement.ts'

export interface Device {
  readonly path: string
  /** This user may read and write it. */
  readonly open: boolean
  /** Name of the group it belongs to. */
  readonly group: string
}

export interface Port extends Device {
  /** Where a link leads: /dev/serial0 to /dev/ttyAMA0. */
  readonly target: string
}

export interface Chip extends Device {
  /** null when it could not be asked. */
  readonly label: string | null
  readonly lines: number
  /** Lines that somebody has, with the consumer. */
  readonly used: Readonly<Record<number, string>>
}

export interface PwmChip extends Device {
  readonly number: number
  readonly channels: number
  /** As `fe20c000.pwm`. */
  readonly device: string
}

export interface Groups {
  /** Where cgroup v2 is mounted; null: nowhere. */
  readonly mount: string | null
  /** Controllers that v2 has in its root. */
  readonly controllers: readonly string[]
  /** The group of this process, its controllers, and whether it may be divided. */
  readonly own: string | null
  readonly ownControllers: readonly string[]
  readonly writable: boolean
  /** cgroup.kill is there. */
  readonly kill: boolean
}

export const MODULES = ['koffi', 'i2c-bus', 'onoff', 'epoll', 'pigpio'] as const
export type NativeModule = (typeof MODULES)[number]

/** Commands that the runtime starts, and the package of Debian that has them. */
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
    /** The first file or folder of Node or of this installation that a program's user could not read. */
    readonly closed: string | null
  }
  readonly chips: readonly Chip[]
  readonly sysfsGpio: boolean
  readonly i2c: readonly Device[]
  /** Devices that a kernel driver has: `1-0068` to its name. */
  readonly i2cDrivers: Readonly<Record<string, string>>
  readonly spi: readonly Device[]
  readonly serial: readonly Port[]
  /** What the kernel has found on 1-wire buses, as `28-0316a279f5ff`; null: there is no bus. */
  readonly w1: readonly string[] | null
  readonly pwm: readonly PwmChip[]
  /** null: it loads; else what was said. */
  readonly modules: Readonly<Record<NativeModule, string | null>>
  /** Those that are missing. */
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
  /** null: could not be asked. */
  readonly clockSet: boolean | null
  readonly realtime: {
    /** A command was started under SCHED_FIFO. */
    readonly works: boolean
    /** sched_rt_runtime_us; -1 is no limit, null unknown. */
    readonly runtimeUs: number | null
    readonly preemptRt: boolean
  }
  readonly memory: { readonly totalMb: number; readonly availableMb: number }
  readonly home: {
    readonly dir: string
    readonly there: boolean
    /** This user may not look into it. */
    readonly closed: boolean
    /** pid of the runtime that has it */
    readonly running: number | null
  }
  /** Board file; `text` null: it cannot be read, and `error` says why. */
  readonly board: { readonly file: string; readonly text: string | null; readonly error: string }
}
