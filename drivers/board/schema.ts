/** The schema of a board file, with every default that does not depend on another key (HANDLES 8.1). */
import { isIP } from 'node:net'
import * as z from 'zod'
import { FULL_SCALES } from './fullscales.ts'
import { MODELS } from './models.ts'

export const DEFAULT_TIMING = {
  readyMs: 10_000,
  yieldMs: 100,
  takeoverMs: 250,
  heartbeatMs: 250,
  bodyMs: 2000,
  trialMs: 1000,
  checkpointMs: 5000,
  lateMs: 0,
  restartMostMs: 30_000,
  spareMs: 600_000,
  rehearsals: 20,
} as const

export const DEFAULT_LIMITS = { memoryMb: 256, pids: 32, tmpMb: 16, dataMb: 64 } as const

/** I2C chips that the simulator has a model of. */
export const CHIP_NAMES = ['24c32', 'ads1115', 'bme280', 'mpu6050', 'pca9685', 'pcf8574', 'ssd1306', 'vl53l0x'] as const
export type ChipName = (typeof CHIP_NAMES)[number]
/** SPI chips that the simulator has a model of; `loopback` is a wire from MOSI to MISO. */
export const SPI_CHIP_NAMES = ['loopback', 'mcp3008'] as const
export type SpiChipName = (typeof SPI_CHIP_NAMES)[number]

const BAUD_RATES = [
  ...[300, 600, 1200, 2400, 4800, 9600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600],
  ...[1_000_000, 1_152_000, 1_500_000, 2_000_000, 2_500_000, 3_000_000, 3_500_000, 4_000_000],
]
const LINE_COUNT = 54
const LINE_HELP = `expected a line from GPIO0 to GPIO${LINE_COUNT - 1}`
const PORT_HELP = 'expected a port from 1 to 65535'
const HOST_HELP = 'expected an IP address of this machine, as "127.0.0.1", or "0.0.0.0" for all'
const SOCKET_HELP = 'expected the name of a socket file, as "web.sock": it is created in the folder sockets of the home'
const ADDRESS_HELP = 'expected an address from 0x03 to 0x77'

const handleName = z
  .string()
  .regex(/^[A-Za-z][A-Za-z0-9_-]{0,39}$/, 'expected a letter, then at most 39 letters, digits, - or _')
const slotName = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, 'expected the name of a slot, as "main"')
const whole = (least: number, most: number, message: string) =>
  z.int({ error: message }).min(least, message).max(most, message)
const line = z
  .union([z.string().regex(/^GPIO(?:\d|[1-4]\d|5[0-3])$/, LINE_HELP), whole(0, LINE_COUNT - 1, LINE_HELP)], LINE_HELP)
  .transform((given) => (typeof given === 'number' ? `GPIO${given}` : given))
const address = z
  .union(
    [z.string().regex(/^0x(?:0?[3-9a-fA-F]|[1-6][0-9a-fA-F]|7[0-7])$/, ADDRESS_HELP), whole(3, 0x77, ADDRESS_HELP)],
    ADDRESS_HELP,
  )
  .transform((given) => Number(given))
const level = z.union([z.literal(0), z.literal(1)], 'expected 0 or 1')
const duty = z.number().min(0).max(1)
const angle = z.number().min(-36_000).max(36_000)
const pulse = z.number().min(50).max(20_000)
const anyVia = z.enum(['inherit', 'broker'])
const via = anyVia.default('inherit')
const inherited = z.literal('inherit').default('inherit')
/** Interface to a GPIO line: the character device, or sysfs, which newer kernels do not have. */
const driver = z.enum(['cdev', 'sysfs']).default('cdev')

/** A channel of a PWM chip; chip 0 with channel 1 is /sys/class/pwm/pwmchip0/pwm1. */
export const channel = z.strictObject({ chip: z.int().min(0).max(63), channel: z.int().min(0).max(63) })

export const entry = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('output'),
    line,
    initial: level.default(0),
    safe: z.union([z.literal(0), z.literal(1), z.literal('hold')], 'expected 0, 1 or "hold"').optional(),
    activeLow: z.boolean().default(false),
    drive: z.enum(['push-pull', 'open-drain', 'open-source']).default('push-pull'),
    driver,
    via,
  }),
  z.strictObject({
    kind: z.literal('input'),
    line,
    pull: z.enum(['up', 'down', 'none']).default('none'),
    edges: z.enum(['rising', 'falling', 'both', 'none']).default('both'),
    debounceMs: z.number().min(0).max(1000).default(0),
    activeLow: z.boolean().default(false),
    driver,
    via,
  }),
  z.strictObject({
    kind: z.literal('pwm'),
    line,
    frequencyHz: z.number().min(1).max(1e6),
    initial: duty.default(0),
    safe: z.union([duty, z.literal('hold')], 'expected a duty cycle from 0 to 1, or "hold"').optional(),
    min: duty.default(0),
    max: duty.default(1),
    slew: z.number().min(0).max(1e6).default(0),
    driver: z.enum(['kernel', 'pigpio', 'software']).default('kernel'),
    channel: channel.optional(),
    via: anyVia.optional(),
  }),
  z.strictObject({
    kind: z.literal('servo'),
    line,
    frequencyHz: z.number().min(20).max(1000).default(50),
    // most hobby servos take these pulses for their full travel
    minUs: pulse.default(500),
    maxUs: pulse.default(2500),
    degrees: z.tuple([angle, angle], 'expected two angles, as [0, 180]').default([0, 180]),
    initial: angle.optional(),
    safe: z.union([angle, z.literal('hold')], 'expected degrees, or "hold"').optional(),
    slew: z.number().min(0).max(1e6).default(0),
    driver: z.enum(['kernel', 'pigpio']).default('kernel'),
    channel: channel.optional(),
    via: anyVia.optional(),
  }),
  z.strictObject({
    kind: z.literal('i2c'),
    bus: z.int().min(0).max(31),
    address,
    simulate: z.enum(CHIP_NAMES).optional(),
    via: anyVia.optional(),
  }),
  z.strictObject({
    kind: z.literal('analog'),
    adc: z.enum(['ads1115']),
    bus: z.int().min(0).max(31),
    address: address.default(0x48),
    channel: z.int().min(0).max(3),
    fullScale: z.literal(FULL_SCALES, `expected one of ${FULL_SCALES.join(', ')} V`).default(4.096),
    via: anyVia.optional(),
  }),
  z.strictObject({
    kind: z.literal('spi'),
    bus: z.int().min(0).max(31),
    select: z.int().min(0).max(31),
    mode: z.int().min(0).max(3).default(0),
    speedHz: z.int().min(1).max(125_000_000).default(1_000_000),
    bits: z.int().min(1).max(32).default(8),
    lsbFirst: z.boolean().default(false),
    simulate: z.enum(SPI_CHIP_NAMES).optional(),
    via: anyVia.optional(),
  }),
  z.strictObject({
    kind: z.literal('serial'),
    path: z
      .string()
      .regex(/^\/dev\/(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._:/-]*$/, 'expected the path of a device, as "/dev/serial0"'),
    baud: z.int().refine((rate) => BAUD_RATES.includes(rate), 'expected a standard rate, as 9600 or 115200'),
    dataBits: z.int().min(5).max(8).default(8),
    parity: z.enum(['none', 'even', 'odd']).default('none'),
    stopBits: z.int().min(1).max(2).default(1),
    via: inherited,
  }),
  z.strictObject({
    kind: z.literal('temperature'),
    sensor: z.enum(['ds18b20']).default('ds18b20'),
    device: z
      .string()
      .regex(/^28-[0-9a-f]{12}$/, 'expected the id of a DS18B20 from /sys/bus/w1/devices, as "28-0316a279f5ff"'),
    // the sensor needs 750 ms for one conversion
    everyMs: z.int().min(750).max(3_600_000).default(1000),
    via: z.literal('broker').default('broker'),
  }),
  z.strictObject({
    kind: z.literal('listen'),
    port: whole(1, 65_535, PORT_HELP).optional(),
    host: z
      .string()
      .refine((host) => isIP(host) !== 0, HOST_HELP)
      .default('0.0.0.0'),
    path: z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, SOCKET_HELP)
      .optional(),
    via: inherited,
  }),
])

export const timing = z.strictObject({
  readyMs: z.int().min(10).max(600_000).default(DEFAULT_TIMING.readyMs),
  yieldMs: z.int().min(1).max(60_000).default(DEFAULT_TIMING.yieldMs),
  /** from the old program's yield until the new one runs; each MiB of state adds 20 ms (HANDOVER 6.12) */
  takeoverMs: z.int().min(10).max(60_000).default(DEFAULT_TIMING.takeoverMs),
  heartbeatMs: z.int().min(5).max(60_000).default(DEFAULT_TIMING.heartbeatMs),
  /** the guard ends a body that stands still for longer than this; 0 is off (HANDLES 14.11) */
  bodyMs: z.int().min(0).max(600_000).default(DEFAULT_TIMING.bodyMs),
  trialMs: z.int().min(0).max(3_600_000).default(DEFAULT_TIMING.trialMs),
  checkpointMs: z.int().min(10).max(3_600_000).default(DEFAULT_TIMING.checkpointMs),
  /** a tick later than this ends the program; 0 is off (HANDLES 6.8) */
  lateMs: z.number().min(0).max(60_000).default(DEFAULT_TIMING.lateMs),
  /** the longest backoff before a program that keeps crashing is started again */
  restartMostMs: z.int().min(10).max(3_600_000).default(DEFAULT_TIMING.restartMostMs),
  /** how long an unused spare child is kept (HANDOVER 12.5) */
  spareMs: z.int().min(10).max(86_400_000).default(DEFAULT_TIMING.spareMs),
  rehearsals: z.int().min(0).max(1000).default(DEFAULT_TIMING.rehearsals),
})

export const limits = z.strictObject({
  memoryMb: z.int().min(16).max(1_048_576).default(DEFAULT_LIMITS.memoryMb),
  // tasks, so threads count: a Node process has about 12
  pids: z.int().min(16).max(4096).default(DEFAULT_LIMITS.pids),
  tmpMb: z.int().min(1).max(65_536).default(DEFAULT_LIMITS.tmpMb),
  dataMb: z.int().min(1).max(1_048_576).default(DEFAULT_LIMITS.dataMb),
})

export const estop = z.strictObject({ input: z.string(), level: level.default(0) })

const BUILDER_HELP = 'expected a public key, as "ssh-ed25519 AAAA…", without a comment'
/** The 32 bytes of the key itself, which are the second field of both types of key. */
const keyBytes = (line: string) => {
  const blob = Buffer.from(line.slice(line.indexOf(' ') + 1), 'base64')
  const at = 4 + blob.readUInt32BE(0)
  return blob.subarray(at, at + 36).toString('hex')
}
/** The type of the key may be left away. */
const builderKey = z
  .string()
  .regex(
    /^(?:(?:ssh-ed25519 )?[A-Za-z0-9+/]{68}|sk-ssh-ed25519@openssh\.com [A-Za-z0-9+/]{96,192}={0,2})$/,
    BUILDER_HELP,
  )
  .transform((key) => (key.includes(' ') ? key : `ssh-ed25519 ${key}`))
const reproduction = z
  .strictObject({
    count: whole(1, 16, 'expected how many builders must agree, from 1 to 16').optional(),
    builders: z
      .array(builderKey)
      .min(1)
      .max(16)
      // One key in two forms, as one of a token and one in software, is one builder (BUNDLE 17.2).
      .refine((keys) => new Set(keys.map(keyBytes)).size === keys.length, 'expected each builder once'),
  })
  .refine(({ count = 1, builders }) => count <= builders.length, 'expected at least as many builders as count says')

export const board = z.strictObject({
  $schema: z.string().optional(),
  name: z.string().min(1).max(64).optional(),
  model: z.enum(MODELS),
  chip: z.string().min(1).max(32).optional(),
  handles: z.record(handleName, entry),
  wires: z.array(z.tuple([z.string(), z.string()], 'expected a pair, as ["led", "button"]')).default([]),
  timing: timing.default({ ...DEFAULT_TIMING }),
  realtime: z.int().min(0).max(99).default(0),
  memoryReserveMb: z.int().min(0).max(1_048_576).default(64),
  unconfined: z.boolean().default(false),
  estop: estop.optional(),
  network: z.array(slotName).default([]),
  requireReproduced: reproduction.optional(),
  limits: limits.default({ ...DEFAULT_LIMITS }),
})

export type ParsedBoard = z.output<typeof board>
