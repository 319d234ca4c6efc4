/** Invariant: the shape of a board file, and every default that does not depend on another key (HANDLES 8.1). */
import { z } from 'zod'

export const DEFAULT_TIMING = {
  readyMs: 10_000,
  yieldMs: 100,
  heartbeatMs: 250,
  trialMs: 1000,
  checkpointMs: 5000,
  rehearsals: 20,
} as const

const LINE_COUNT = 54
const LINE_HELP = `expected a line from GPIO0 to GPIO${LINE_COUNT - 1}`
const ADDRESS_HELP = 'expected an address from 0x03 to 0x77'

const handleName = z
  .string()
  .regex(/^[A-Za-z][A-Za-z0-9_-]{0,39}$/, 'expected a letter, then at most 39 letters, digits, - or _')
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
const via = z.enum(['inherit', 'broker']).default('inherit')

export const entry = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('output'),
    line,
    initial: level.default(0),
    safe: z.union([z.literal(0), z.literal(1), z.literal('hold')], 'expected 0, 1 or "hold"').optional(),
    activeLow: z.boolean().default(false),
    via,
  }),
  z.strictObject({
    kind: z.literal('input'),
    line,
    pull: z.enum(['up', 'down', 'none']).default('none'),
    edges: z.enum(['rising', 'falling', 'both', 'none']).default('both'),
    debounceMs: z.number().min(0).max(1000).default(0),
    activeLow: z.boolean().default(false),
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
    via,
  }),
  z.strictObject({
    kind: z.literal('i2c'),
    bus: z.int().min(0).max(31),
    address,
    simulate: z.enum(['mpu6050']).optional(),
    via: z.literal('broker').default('broker'),
  }),
])

export const timing = z.strictObject({
  readyMs: z.int().min(10).max(600_000).default(DEFAULT_TIMING.readyMs),
  yieldMs: z.int().min(1).max(60_000).default(DEFAULT_TIMING.yieldMs),
  heartbeatMs: z.int().min(5).max(60_000).default(DEFAULT_TIMING.heartbeatMs),
  trialMs: z.int().min(0).max(3_600_000).default(DEFAULT_TIMING.trialMs),
  checkpointMs: z.int().min(10).max(3_600_000).default(DEFAULT_TIMING.checkpointMs),
  rehearsals: z.int().min(0).max(1000).default(DEFAULT_TIMING.rehearsals),
})

export const board = z.strictObject({
  $schema: z.string().optional(),
  name: z.string().min(1).max(64).optional(),
  model: z.enum(['sim', 'pi3', 'pi4', 'pi5', 'zero2w']),
  handles: z.record(handleName, entry),
  wires: z.array(z.tuple([z.string(), z.string()], 'expected a pair, as ["led", "button"]')).default([]),
  timing: timing.default({ ...DEFAULT_TIMING }),
  realtime: z.int().min(0).max(99).default(0),
  memoryReserveMb: z.int().min(0).max(1_048_576).default(64),
  unconfined: z.boolean().default(false),
})

export type ParsedBoard = z.output<typeof board>
